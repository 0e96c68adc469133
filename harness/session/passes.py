"""Runs a profiling pass beside a measured run: same workload, same settings, a fresh worker, a folder of its own.

The measured run is over and written before a pass begins. Whatever becomes of the pass is said in the result, in
`profiling`, and changes nothing else of it.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.analysis.steps import usual_batch
from innerloop.harness.cli.errors import InnerloopError, Refused, told
from innerloop.harness.cli.signals import Stopped, hold
from innerloop.harness.machine.affinity import started_on
from innerloop.harness.process import launcher
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.launcher import Limits, Outcome, Worker
from innerloop.harness.profiling import findings, tools
from innerloop.harness.profiling.choice import TOOLS, DescribedProfile, Profile
from innerloop.harness.profiling.findings import Findings
from innerloop.harness.profiling.host import Sampling, require_py_spy
from innerloop.harness.result.keep import keep
from innerloop.harness.schema.profiling import HostProfile, Profiling
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.session.causes import cause_of
from innerloop.harness.session.phases import WORDS
from innerloop.harness.store.alive import this_harness
from innerloop.harness.store.atomic import write_text
from innerloop.harness.store.tables import convert, read_tables

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.spec.model import RunSpec

WARMUP_ROUNDS = 2  # enough to compile and allocate what is needed; nothing is timed that has to have settled
PATIENCE = 10.0  # times its usual limits that a tool may need, which runs every kernel many times over


class Unreadable(InnerloopError):
    """The pass came to its end, and what the profiler left is not what it should be."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pass runs: the engine's interpreter with its variables, the measured run's folder and its CPUs."""

    python: Path
    variables: Mapping[str, str]
    run_folder: Path
    cpus: tuple[int, ...] | None = None

    def folder(self, profile: Profile) -> Path:
        return self.run_folder / f"profile-{profile.kind}"


def check(profile: Profile, spec: RunSpec, out: Path) -> None:
    """What can be known before anything is started.

    Raises:
        Refused: the profiler is not here, or it has nothing to look at.
    """
    suits(profile, spec.device)
    if profile.kind in TOOLS:
        tools.require(profile.kind, command(profile, Place(interpreter(spec), {}, out.absolute())))
    if profile.kind == "host":
        require_py_spy()


def suits(profile: Profile, device: str) -> None:
    """Raises: Refused: on this device there is nothing for that profiler to see."""
    if profile.kind in TOOLS and device != "cuda":
        raise Refused(
            f"--profiler {profile.kind} profiles CUDA kernels, but this run uses the CPU",
            "use --profiler kernels for operator times, or --profiler host for a flame graph",
        )


def interpreter(spec: RunSpec) -> Path:
    """The engine's interpreter, also where its environment is not made yet."""
    from innerloop.harness import environments

    own = environments.yours(spec.engine, spec.device, spec.engine_python, spec.environment)
    return own.python if own is not None else environments.plan(spec.engine, spec.device).folder / "bin" / "python"


def command(profile: Profile, place: Place, tool: str | None = None) -> list[str]:
    """The command line of the pass, to be run by hand as well: it then tells on its standard output what it does."""
    folder = place.folder(profile)
    worker = launcher.worker_command(place.python, folder / "job.json", "1")
    return [*tools.prefix(profile.kind, folder, tool), *worker] if profile.kind in TOOLS else worker


class PlannedPass(DescribedProfile):
    """A pass with the path of the profiler, None where it needs none or has none here, and its command line."""

    tool: str | None
    command: str


def describe(profile: Profile, spec: RunSpec, out: Path) -> PlannedPass:
    """The pass as it would be run, for the plan, which may be one for another machine.

    Raises:
        Refused: on this device there is nothing for that profiler to see.
    """
    suits(profile, spec.device)
    tool = tools.find(profile.kind) if profile.kind in TOOLS else None
    return {
        **profile.describe(),
        "tool": tool,
        "command": tools.text(command(profile, Place(interpreter(spec), {}, out.absolute()), tool)),
    }


def add(
    profile: Profile,
    device: str,
    place: Place,
    limits: Limits,
    measured: tuple[Result, int | None],
    console: Console,
) -> Result:
    """Runs the pass and adds `profiling` and `kernels` to the measured result, which is written anew and returned.

    `measured` is that result and the pid of the worker that it came from.
    """
    result, measured_pid = measured
    outcome, about = Outcome(), Pass(profile, place, limits, console)
    begun = time.monotonic()
    seen, host = None, None
    with hold() as held:
        try:
            if result.failure is not None:
                raise InnerloopError("the measured run failed, so it was not profiled")
            with held.released():
                about.run(outcome)
                if outcome.failure is None:
                    seen, host = about.found(device), about.found_of_host()
        except Stopped as stopped:
            outcome.failure = Failure("interrupted", f"innerloop received {stopped.take()}")
        except Unreadable as error:
            outcome.failure = Failure("profile", str(error))
        except (InnerloopError, OSError) as error:
            outcome.failure = Failure(cause_of(error), str(error))
        except Exception as error:
            lines = tuple(traceback.format_exc().splitlines())
            outcome.failure = Failure(cause_of(error), told(error), traceback=lines)
        if outcome.failure is not None:
            tail = log_tail(about.folder / "engine.log")
            outcome.failure = replace(outcome.failure, log_tail=tail)
        outcome.notes += put_away(about.folder)
        result = replace(
            result,
            kernels=None if seen is None else seen.kernels,
            profiling=Profiling(
                kind=profile.kind,
                steps=profile.steps,
                windows=tuple(asdict(window) for window in profile.windows),
                folder=about.folder.name,
                command=tools.text(about.command()),
                seconds=time.monotonic() - begun,
                worker_pid=outcome.worker_pid,
                measured_worker_pid=measured_pid,
                failure=outcome.failure,
                notes=tuple(outcome.notes),
                captured=None if seen is None else seen.captured,
                slowdown=None if seen is None else seen.slowdown,
                host=host,
            ),
        )
        return keep(place.run_folder, result, f"the profiling pass could not be added to {place.run_folder}")


def put_away(folder: Path) -> tuple[str, ...]:
    """Puts the records of a pass away, and says what went wrong with that."""
    try:
        return convert(folder).notes if folder.is_dir() else ()
    except Exception as error:
        return (f"the profiling pass's records could not be read ({told(error)}); they are in {folder}",)


class Pass:
    """One pass on its way."""

    def __init__(self, profile: Profile, place: Place, limits: Limits, console: Console) -> None:
        self.profile, self.place, self.console = profile, place, console
        self.folder = place.folder(profile)
        slower = PATIENCE if profile.kind == "ncu" else 1.0
        hang_s = None if limits.hang_s is None else limits.hang_s * slower
        self.limits = Limits(limits.load_s * slower, hang_s, limits.total_s)
        self._tool = tools.find(profile.kind) if profile.kind in TOOLS else None
        self._sampling: Sampling | None = None
        self._phase, self._told = "", 0

    def command(self) -> list[str]:
        return command(self.profile, self.place, self._tool)

    def say(self, text: str) -> None:
        self.console.print(f"profiling pass ({self.profile.kind}): {text}", style="dim")

    def run(self, outcome: Outcome) -> None:
        """Starts the pass's worker and follows it to its end."""
        self.folder.mkdir()
        job_path = self.write_job()
        prefix: list[str] = []
        if self.profile.kind in TOOLS:
            prefix = tools.prefix(self.profile.kind, self.folder, self._tool)
            self.console.print(tools.text(self.command()), soft_wrap=True)
        with hold() as held:
            with started_on(self.place.cpus):
                worker = Worker(
                    self.place.python, job_path, self.folder / "engine.log", dict(self.place.variables), tool=prefix
                )
            try:
                with held.released():
                    launcher.watch(worker, [self.folder / "trace"], self.limits, self.tick, outcome)
            finally:
                try:
                    if self._sampling is not None:
                        self._sampling.stop()
                finally:
                    worker.close(outcome.worker_pid)

    def write_job(self) -> Path:
        """The measured run's job with a trace of its own and what is to be profiled."""
        job = json.loads((self.place.run_folder / "job.json").read_text())
        job["warmup"]["rule"]["max_rounds"] = WARMUP_ROUNDS
        job |= {
            "trace": str(self.folder / "trace"),
            "keep_token_ids": False,
            "spawn_ns": time.monotonic_ns(),
            **this_harness(),
            "profile": {
                **self.profile.describe(),
                "folder": str(self.folder),
                "batch": usual_batch(read_tables(self.place.run_folder).steps),
                "under_tool": self.profile.kind in TOOLS,
                "tracer_pid": os.getpid(),
            },
        }
        path = self.folder / "job.json"
        write_text(path, json.dumps(job, indent=1))
        return path

    def tick(self, outcome: Outcome) -> None:
        """Says what is going on; attaches and detaches what looks at the worker from outside."""
        phase = next(reversed(outcome.phases), "start")
        if phase != self._phase and phase in WORDS:
            self.say(WORDS[phase] if phase != "measure" else f"running the workload, steps: {self.profile.steps}")
        self._phase = phase
        for event in outcome.captures[self._told :]:
            self.say(f"{'capturing from' if event['open'] else 'captured up to'} step {event['step']}")
            if self.profile.kind == "host" and event["open"] and outcome.worker_pid is not None:
                self._sampling = Sampling(outcome.worker_pid, self.folder)
            elif self._sampling is not None:
                self._sampling.stop()
        self._told = len(outcome.captures)

    def found(self, device: str) -> Findings:
        """What the pass saw of the device.

        Raises:
            Unreadable: nothing was captured, or it cannot be read.
        """
        steps = convert(self.folder).steps
        measured = read_tables(self.place.run_folder).steps
        try:
            return findings.find(self.profile, self.folder, device, steps, measured, self._tool, self.say)
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(str(error)) from error

    def found_of_host(self) -> HostProfile | None:
        """What py-spy saw; None where it did not look."""
        return None if self._sampling is None else self._sampling.found()
