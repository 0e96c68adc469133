"""A run, or several in one process, from resolved specs to results on disk: environment, worker, analysis."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.analysis.chunks import said
from innerloop.harness.cli.errors import InnerloopError, InstallFailed, Refused, told
from innerloop.harness.cli.signals import Stopped, hold
from innerloop.harness.export import perfetto
from innerloop.harness.machine.affinity import running_on, started_on
from innerloop.harness.machine.state import host_state
from innerloop.harness.preparations import PreparationFailed
from innerloop.harness.process import launcher
from innerloop.harness.process.launcher import Outcome, Worker
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.session import passes, verify
from innerloop.harness.session.causes import advice_of, cause_of, refuses
from innerloop.harness.session.conclude import conclude
from innerloop.harness.session.inputs import Inputs
from innerloop.harness.session.job import take_back, write_job
from innerloop.harness.session.live import LiveView, Part
from innerloop.harness.session.options import Options
from innerloop.harness.session.prepared import Prepared, find_ceilings, prepare
from innerloop.harness.session.windows import Window, in_folders, inputs_of_windows, outcomes, samplers_of
from innerloop.harness.spec.adapter_settings import devices_of, engine_processes
from innerloop.harness.store.run_folder import release
from innerloop.harness.telemetry import samplers
from innerloop.harness.telemetry.samplers import Samplers

LOG = "engine.log"

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.environments import Environment
    from innerloop.harness.machine import Machine
    from innerloop.harness.spec.model import RunSpec


def run(spec: RunSpec, machine: Machine, options: Options, console: Console) -> tuple[Result, Path]:
    """Runs `spec` and returns its result and its folder, where the result is also written, whatever happens.

    From when the folder is there a signal ends the run and not its result; while that is made none is raised.

    Raises:
        Refused: nothing was started. Stopped: no folder was made yet, or the result lies in it.
    """
    return run_windows([(spec, options)], machine, console)[0]


def run_windows(asked: Sequence[Window], machine: Machine, console: Console) -> list[tuple[Result, Path]]:
    """Runs each spec in a window of its own on one engine, which is loaded once; all of their results and folders.

    How the process is run is what the first one's options say. A profiling pass needs a process with one window.

    Raises:
        Refused, Stopped: as `run`.
    """
    asked = [(spec, replace(options, limits=options.limits.on(spec.device))) for spec, options in asked]
    drawn, (spec, options) = inputs_of_windows(asked, machine), asked[0]
    prepared, outcome = Prepared(), Outcome()
    used = devices_of(spec)
    sampled = samplers.for_run(spec.device, used, machine, options.device_telemetry, options.device_hz)

    def say(text: str) -> None:
        console.print(text, style="dim")

    for line in dict.fromkeys(line for one, _ in asked for line in one.workload.warnings()):
        console.print(f"! {line}", style="yellow", highlight=False, markup=False)
    with hold() as held:
        windows = in_folders(drawn)
        inputs = windows[0]
        try:
            with held.released():
                prepare(inputs, prepared, say)
                if sampled.devices:
                    say(f"measuring idle power for {samplers.IDLE_S:g} s")
                sampled.measure_idle()
                find_ceilings(spec, machine, prepared, options, say)
                assert prepared.environment is not None
                with said("drawing the prompts", say):
                    for one in windows:
                        write_job(one, prepared, windows[1:] if one is inputs else ())
                prepared.host = host_state(options.cpus, options.harness_cpus)
                measure(windows, prepared.environment, outcome, sampled, console)
        except Stopped as stopped:
            outcome.failure = Failure("interrupted", f"innerloop received {stopped.take()}")
        except Refused:
            withdraw(windows, sampled)
            raise
        except (InstallFailed, PreparationFailed) as error:
            cause = "install_failed" if isinstance(error, InstallFailed) else "preparation_failed"
            outcome.failure = Failure(cause, str(error), traceback=tuple(error.details))
        except (InnerloopError, OSError) as error:
            if refuses(error, inputs.folder / LOG):
                withdraw(windows, sampled)
                raise Refused(f"nothing was started: {error}", advice_of(error)) from error
            outcome.failure = Failure(cause_of(error), str(error))
        except Exception as error:
            lines = tuple(traceback.format_exc().splitlines())
            outcome.failure = Failure(cause_of(error), told(error), traceback=lines)
        results = []
        with said("saving the records", say):
            for one, its in zip(windows, outcomes(windows, outcome), strict=True):
                results.append(conclude(one, prepared, its, sampled.note, samplers_of(sampled, windows, its)))
                release(one.folder)
    if options.profile is not None and prepared.environment is not None:
        environment = prepared.environment
        place = passes.Place(environment.python, environment.variables, inputs.folder, options.cpus)
        seen = (results[0], outcome.worker_pid)
        results[0] = passes.add(options.profile, spec.device, place, options.limits, seen, console)
    if options.verify and prepared.environment is not None:
        results[0] = verify.add(inputs, prepared, results[0], console)
    for one, result in zip(windows, results, strict=True):
        if one.options.trace:
            write_trace(one.folder, result, say)
    return [(result, one.folder) for one, result in zip(windows, results, strict=True)]


def measure(
    windows: Sequence[Inputs], environment: Environment, outcome: Outcome, sampled: Samplers, console: Console
) -> None:
    """Starts the worker and follows it to its end."""
    first = windows[0]
    options, folder = first.options, first.folder
    with hold() as held:
        with started_on(options.cpus):
            worker = Worker(environment.python, folder / "job.json", folder / LOG, dict(environment.variables))
        try:
            sampled.follow((worker.guard_pid, *engine_processes(first.spec)), folder)
            live = LiveView(console, [part_of(one) for one in windows], sampled.devices)
            with running_on(options.harness_cpus), live, held.released():
                launcher.watch(worker, [one.folder / "trace" for one in windows], options.limits, live.tick, outcome)
        finally:
            worker.close(outcome.worker_pid)


def part_of(window: Inputs) -> Part:
    """What the live view shows of a window."""
    work = window.work
    duration_s = float(work.duration_ns) / 1e9 if work.duration_ns >= 0 else None
    return Part(
        window.folder / "trace",
        int(work.output_lens.sum()),
        len(work.output_lens),
        duration_s,
        window.spec.workload.name,
    )


def withdraw(windows: Sequence[Inputs], sampled: Samplers) -> None:
    """Leaves nothing of runs that were refused."""
    for sampler in sampled.all:
        sampler.stop()
    for one in windows:
        take_back(one.folder)
        release(one.folder)


def write_trace(folder: Path, result: Result, say: Callable[[str], None]) -> None:
    """The run for https://ui.perfetto.dev; whatever keeps it from being written takes nothing from the run."""
    try:
        with said(f"writing {perfetto.FILE}", say):
            perfetto.write(folder, result)
    except Exception as error:
        say(f"{perfetto.FILE} could not be written: {told(error)}")
