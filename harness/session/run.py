"""One run from a resolved spec to its result on disk: environment, checkpoint, worker, analysis."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.analysis.chunks import heard
from innerloop.harness.cli.errors import InnerloopError, InstallFailed, Refused, told
from innerloop.harness.cli.signals import Stopped, hold
from innerloop.harness.cli.slowly import Slowly
from innerloop.harness.export import perfetto
from innerloop.harness.machine.affinity import running_on, started_on
from innerloop.harness.machine.state import host_state
from innerloop.harness.preparations import PreparationFailed
from innerloop.harness.process import launcher
from innerloop.harness.process.launcher import Outcome, Worker
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.session import passes
from innerloop.harness.session.conclude import conclude
from innerloop.harness.session.inputs import Inputs, inputs_of
from innerloop.harness.session.job import write_job
from innerloop.harness.session.live import LiveView
from innerloop.harness.session.options import Options
from innerloop.harness.session.prepared import Prepared, find_ceilings, prepare
from innerloop.harness.store.run_folder import make_folder, release
from innerloop.harness.telemetry import samplers
from innerloop.harness.telemetry.samplers import Samplers

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
    drawn = inputs_of(spec, machine, options)
    prepared, outcome = Prepared(), Outcome()
    sampled = samplers.for_run(
        spec.device, spec.settings.tensor_parallel, machine, options.device_telemetry, options.device_hz
    )

    def say(text: str) -> None:
        console.print(text, style="dim")

    with hold() as held:
        inputs = drawn.in_folder(make_folder(options.out, options.numbered))
        try:
            with held.released():
                prepare(inputs, prepared, say)
                if sampled.devices:
                    say(f"measuring idle power for {samplers.IDLE_S:g} s")
                sampled.measure_idle()
                find_ceilings(spec, machine, prepared, options, say)
                assert prepared.environment is not None
                write_job(inputs, prepared)
                prepared.host = host_state(options.cpus, options.harness_cpus)
                measure(inputs, prepared.environment, outcome, sampled, console)
        except Stopped as stopped:
            outcome.failure = Failure("interrupted", f"the harness received {stopped.take()}")
        except Refused:
            release(inputs.folder)
            raise
        except (InstallFailed, PreparationFailed) as error:
            cause = "install_failed" if isinstance(error, InstallFailed) else "preparation_failed"
            outcome.failure = Failure(cause, str(error), traceback=tuple(error.details))
        except (InnerloopError, OSError) as error:
            outcome.failure = Failure("disk_full" if is_full(error) else "harness", str(error))
        except Exception as error:
            lines = tuple(traceback.format_exc().splitlines())
            outcome.failure = Failure("harness", told(error), traceback=lines)
        slowly = Slowly(say)
        with heard(lambda: slowly.tick("putting away what was recorded")):
            result = conclude(inputs, prepared, outcome, sampled)
        release(inputs.folder)
    if options.profile is not None and prepared.environment is not None:
        place = passes.Place(prepared.environment.python, prepared.environment.variables, inputs.folder)
        result = passes.add(options.profile, spec.device, place, options.limits, (result, outcome.worker_pid), console)
    if options.trace:
        write_trace(inputs.folder, result, say)
    return result, inputs.folder


def measure(inputs: Inputs, environment: Environment, outcome: Outcome, sampled: Samplers, console: Console) -> None:
    """Starts the worker and follows it to its end."""
    folder, work = inputs.folder, inputs.work
    trace = folder / "trace"
    duration_s = float(work.duration_ns) / 1e9 if work.duration_ns >= 0 else None
    options = inputs.options
    with hold() as held:
        with started_on(options.cpus):
            worker = Worker(environment.python, folder / "job.json", folder / "engine.log", dict(environment.variables))
        try:
            sampled.follow(worker.guard_pid, folder)
            tokens, requests = int(work.output_lens.sum()), len(work.output_lens)
            live = LiveView(console, trace, tokens, requests, duration_s, sampled.devices)
            with running_on(options.harness_cpus), live, held.released():
                launcher.watch(worker, trace, inputs.options.limits, live.tick, outcome)
        finally:
            worker.close(outcome.worker_pid)


def write_trace(folder: Path, result: Result, say: Callable[[str], None]) -> None:
    """The run for https://ui.perfetto.dev; whatever keeps it from being written takes nothing from the run."""
    try:
        perfetto.write(folder, result)
    except Exception as error:
        say(f"{perfetto.FILE} could not be written: {told(error)}")


def is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
