"""One run from a resolved spec to its result on disk: environment, checkpoint, worker, analysis."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness import environments
from innerloop.harness.checkpoints import Checkpoint, ensure_checkpoint, planned_checkpoint, use_weights
from innerloop.harness.cli.command import Stopped, ignore_signals, stop_signals
from innerloop.harness.cli.errors import InnerloopError, InstallFailed, Refused
from innerloop.harness.machine import Machine, checkout_commit
from innerloop.harness.process import launcher
from innerloop.harness.process.launcher import Limits, Outcome, Worker, failure
from innerloop.harness.result import build as results
from innerloop.harness.session.live import LiveView
from innerloop.harness.spec.adapter_settings import native_settings
from innerloop.harness.store.run_folder import make_folder, remove_empty
from innerloop.harness.telemetry import samplers
from innerloop.harness.telemetry.device import DEFAULT_HZ
from innerloop.harness.telemetry.samplers import Samplers
from innerloop.harness.workloads import Workload, build, warmup

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.ceilings.model import Ceilings
    from innerloop.harness.profiling.choice import Profile
    from innerloop.harness.spec.resolve import RunSpec

WARMUP_TOLERANCE = 0.05  # rounds have settled when the last ones lie this close together (docs/metrics.md)
WARMUP_WINDOW = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What concerns a run but not what it measures."""

    out: Path
    limits: Limits
    keep_token_ids: bool = False
    device_hz: float = DEFAULT_HZ
    device_telemetry: str = "used"  # one of harness.telemetry.samplers.CHOICES
    profile: Profile | None = None  # a pass with a profiler, after the measured run
    ceilings: str = "auto"  # or "off": don't measure what the machine can do at most
    trace: bool = False  # also write a Perfetto trace


@dataclass(slots=True)
class Prepared:
    """What was there before the worker started; None where it was not reached."""

    environment: environments.Environment | None = None
    checkpoint: Checkpoint | None = None
    ceilings: Ceilings | None = None
    no_ceilings: str | None = None  # why there are none


def run(spec: RunSpec, machine: Machine, options: Options, console: Console) -> tuple[dict[str, Any], Path]:
    """Runs `spec` and returns its result and its folder, where the result is also written, whatever happens.

    Raises:
        Refused: nothing was started.
    """
    model, settings = spec.model, spec.settings
    if spec.weights is None:
        planned_checkpoint(model, settings.dtype)
    work = build(spec.workload, model, spec.seeds, settings.context_length)
    warm = warmup(spec.workload, model, spec.seeds, settings.max_batch_size)
    native_settings(spec)
    environments.check(spec.engine, spec.device, spec.engine_python, spec.environment)
    if options.profile is not None:
        from innerloop.harness.session import passes

        passes.check(options.profile, spec, options.out)
    prepared, outcome = Prepared(), Outcome()
    folder = make_folder(options.out)
    sampled = samplers.for_run(
        spec.device, spec.settings.tensor_parallel, machine, options.device_telemetry, options.device_hz
    )

    def say(text: str) -> None:
        console.print(text, style="dim", highlight=False)

    with stop_signals():
        try:
            prepare(spec, prepared, say)
            if sampled.devices:
                console.print(f"measuring idle power for {samplers.IDLE_S:g} s", style="dim", highlight=False)
            sampled.measure_idle()
            find_ceilings(spec, machine, prepared, options, say)
            job = write_job(spec, prepared, work, warm, folder, options)
            assert prepared.environment is not None
            measure(spec, prepared.environment, job, work, folder, options, outcome, sampled, console)
        except Stopped as stopped:
            outcome.failure = failure("interrupted", f"{stopped} reached the harness")
        except Refused:
            remove_empty(folder)
            raise
        except InstallFailed as error:
            outcome.failure = {**failure("install_failed", str(error)), "traceback": list(error.details)}
        except (InnerloopError, OSError) as error:
            outcome.failure = failure("disk_full" if is_full(error) else "harness", str(error))
        except Exception as error:
            lines = traceback.format_exc().splitlines()
            outcome.failure = {**failure("harness", f"{type(error).__name__}: {error}"), "traceback": lines}
        ignore_signals()
        result = conclude(spec, machine, prepared, work, folder, outcome, sampled)
    if options.profile is not None and prepared.environment is not None:
        place = passes.Place(prepared.environment.python, prepared.environment.variables, folder)
        passes.add(options.profile, spec.device, place, options.limits, (result, outcome.worker_pid), console)
    if options.trace:
        write_trace(folder, result, say)
    return result, folder


def write_trace(folder: Path, result: dict[str, Any], say: Callable[[str], None]) -> None:
    """The run for https://ui.perfetto.dev; a disk that has no room for it takes nothing from the run."""
    from innerloop.harness.export import perfetto

    try:
        perfetto.write(folder, result)
    except OSError as error:
        say(f"{perfetto.FILE} could not be written: {error}")


def prepare(spec: RunSpec, prepared: Prepared, say: Callable[[str], None]) -> None:
    """Makes what is not there yet: the engine's environment and the checkpoint."""
    prepared.environment = environments.obtain(spec.engine, spec.device, spec.engine_python, spec.environment, say=say)
    if spec.weights is not None:
        prepared.checkpoint = use_weights(spec.weights, spec.model)
    else:
        prepared.checkpoint = ensure_checkpoint(spec.model, spec.settings.dtype, say=say)


def worker_variables(environment: environments.Environment) -> dict[str, str]:
    """The variables of a worker that can change what is measured; of a registered environment all that it sets."""
    found = launcher.telling(launcher.environment(dict(environment.variables)))
    return {**found, **environment.variables} if environment.name else found


def find_ceilings(
    spec: RunSpec, machine: Machine, prepared: Prepared, options: Options, say: Callable[[str], None]
) -> None:
    """What the machine can do at most, measured now if it never was; after the idle power, since it heats a device."""
    from innerloop.harness.ceilings.obtain import for_run

    assert prepared.environment is not None
    if options.ceilings == "off":
        prepared.no_ceilings = "the ceilings of this machine were left out (--ceilings off)"
    else:
        prepared.ceilings, prepared.no_ceilings = for_run(spec, prepared.environment, machine, say)


def write_job(
    spec: RunSpec, prepared: Prepared, work: Workload, warm: Workload, folder: Path, options: Options
) -> dict[str, Any]:
    """Writes all that the worker is told, and what `harness.show` needs should the harness not live to tell it."""
    assert prepared.checkpoint is not None
    work.save(folder / "workload.npz")
    warm.save(folder / "warmup.npz")
    knobs = spec.workload.warmup
    job = {
        "engine": spec.engine.name,
        "load": {
            "checkpoint": str(prepared.checkpoint.path),
            "config": json.loads((prepared.checkpoint.path / "config.json").read_text()),
            "device": spec.device,
            "layer": spec.layer,
            "settings": spec.settings.model_dump(),
            "engine_args": spec.engine_args,
            "trust_remote_code": spec.trust_remote_code,
        },
        "workload": str(folder / "workload.npz"),
        "warmup": {
            "workload": str(folder / "warmup.npz"),
            "rule": {
                "max_rounds": knobs.max_rounds,
                "max_s": knobs.max_s,
                "tolerance": WARMUP_TOLERANCE,
                "window": WARMUP_WINDOW,
            },
        },
        "trace": str(folder / "trace"),
        "keep_token_ids": options.keep_token_ids,
        "spec": spec.describe(),
        "workload_hash": work.hash,
        "harness_pid": os.getpid(),
        "spawn_ns": time.monotonic_ns(),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1))
    return job


def measure(
    spec: RunSpec,
    environment: environments.Environment,
    job: dict[str, Any],
    work: Workload,
    folder: Path,
    options: Options,
    outcome: Outcome,
    sampled: Samplers,
    console: Console,
) -> None:
    """Starts the worker and follows it to its end."""
    trace = folder / "trace"
    duration_s = float(work.duration_ns) / 1e9 if work.duration_ns >= 0 else None
    worker = Worker(environment.python, folder / "job.json", folder / "engine.log", dict(environment.variables))
    try:
        sampled.follow(worker.guard_pid)
        tokens, requests = int(work.output_lens.sum()), len(work.output_lens)
        with LiveView(console, trace, tokens, requests, duration_s, sampled.devices) as live:
            launcher.watch(worker, trace, options.limits, live.tick, outcome)
    finally:
        worker.close(outcome.worker_pid)


def conclude(
    spec: RunSpec,
    machine: Machine,
    prepared: Prepared,
    work: Workload,
    folder: Path,
    outcome: Outcome,
    sampled: Samplers,
) -> dict[str, Any]:
    """Turns the trace into tables and figures, also after a failure, and writes them."""
    if outcome.failure is not None:
        outcome.failure["log_tail"] = launcher.log_tail(folder / "engine.log")
    environment, checkpoint = prepared.environment, prepared.checkpoint
    facts = {
        "lock_hash": environment.lock_hash if environment else None,
        "python": outcome.reported.get("versions", {}).get("python"),
        "packages": outcome.reported.get("versions", {}).get("packages"),
        "torch": outcome.reported.get("versions", {}).get("torch"),
        "interpreter": str(environment.python) if environment else None,
        "registered": environment.name if environment else None,
        "sites": [str(site) for site in environment.sites] if environment else None,
        "variables": worker_variables(environment) if environment else None,
        **machine.describe(),
        "commit": checkout_commit(),
    }
    kept = folder / "trace" / "measure" / "output_ids.npz"
    if kept.exists():
        kept.rename(folder / kept.name)
    tables = results.convert(folder, *sampled.all)
    result = results.build(
        spec=spec.describe(),
        workload=work.describe(),
        workload_hash=work.hash,
        checkpoint=asdict(checkpoint) if checkpoint else None,
        reported=outcome.reported,
        phases=outcome.phases,
        notes=outcome.notes,
        tables=tables,
        environment=facts,
        failure=outcome.failure,
        device_note=sampled.note,
        ceilings=prepared.ceilings,
        no_ceilings=prepared.no_ceilings,
    )
    try:
        results.write(folder, result)
    except OSError as error:
        result["notes"].append(f"this result could not be written to {folder}: {error}")
    return result


def is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (28, 122)  # ENOSPC, EDQUOT
