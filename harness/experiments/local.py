"""Running an experiment on this machine, one process at a time, and saying how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.analysis.statistics import paired_ratio
from innerloop.harness.analysis.trials import half_width, mean_of_processes
from innerloop.harness.analysis.verdicts import looks_interval
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, InnerloopError, Refused
from innerloop.harness.cli.signals import Stopped
from innerloop.harness.cli.words import ends, number, share
from innerloop.harness.experiments.addresses import addresses_now, remember
from innerloop.harness.experiments.bisecting import BISECT
from innerloop.harness.experiments.blocks import ENDED, Job, latest
from innerloop.harness.experiments.compared import blocks_of, compared
from innerloop.harness.experiments.folder import DOCUMENT, failed_jobs, read_events, read_manifest, unmake
from innerloop.harness.experiments.probes import FIND_RATE
from innerloop.harness.experiments.runner import Choose, Execute, Outcome, Tell, carry_out, event_of
from innerloop.harness.experiments.sides import check_place, question_of
from innerloop.harness.experiments.stopping import by_key, metric_of, sides_of, two_sided
from innerloop.harness.machine import this_machine
from innerloop.harness.machine.state import host_state
from innerloop.harness.profiling.choice import choose
from innerloop.harness.report.comparison import short_name
from innerloop.harness.result.codes import suspect_codes
from innerloop.harness.result.exit_code import interrupted
from innerloop.harness.result.figures import FIGURES, value_of, values_of
from innerloop.harness.schema.comparison import Comparison
from innerloop.harness.schema.experiment import Event, Manifest
from innerloop.harness.schema.result import ExperimentPlace, Result
from innerloop.harness.session import run as session
from innerloop.harness.session.arguments import parser, request_of
from innerloop.harness.session.options import options_of
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store.documents import write_document
from innerloop.harness.store.typed import DataClass, document

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiling.choice import Profile
    from innerloop.harness.session.options import Options
    from innerloop.harness.spec.model import RunSpec

WRITE_EVERY_S = 5.0
Way = tuple[Callable[[Path, Manifest, "Machine", "Console"], Execute], "Choose | None"]  # how it runs and chooses
Elsewhere = Callable[[Path, Tell, "Console", "float | None"], bool]  # as `carry_out`, on other machines
Conclude = Callable[[Path], DataClass]  # an experiment's folder -> its document; raises Refused where there is none yet


def go_on(folder: Path, console: Console) -> tuple[Comparison | None, int]:
    """Runs what is left of a comparison; its document, None where no block is whole, and the exit code.

    Raises:
        Refused: it is no experiment, cannot go on here, another process is running it, or its sides cannot be compared.
    """
    question = question_of(read_manifest(folder))
    code = run_left(folder, console)
    try:
        blocks_of(folder)
    except Refused:
        return None, code
    found = compared(folder, question)
    write_document(folder / DOCUMENT, document(found))
    return found, code


def run_left(
    folder: Path,
    console: Console,
    conclude: Conclude | None = None,
    budget_s: float | None = None,
    way: Way | None = None,
    on: Elsewhere | None = None,
) -> int:
    """Runs what is left of an experiment; the exit code. Its document is written meanwhile and at the end, if
    `conclude` makes it. budget_s: no process begins later than so many seconds from now. way: how this design is run;
    None: a run a job. on: runs it on other machines; None: it is run on this one.

    Raises:
        Refused: it is no experiment, cannot go on here, another process is running it, or nothing could be begun: a
            new experiment is not kept then.
    """
    manifest, machine = read_manifest(folder), this_machine()
    check_place(manifest, machine)
    fresh, written = not read_events(folder), time.monotonic()
    tell_people = teller(folder, manifest, console)

    def write() -> None:
        nonlocal written
        if conclude is not None:
            try:
                write_document(folder / DOCUMENT, document(conclude(folder)))
            except Refused:
                pass  # nothing to be said yet
            written = time.monotonic()

    def tell(events: Sequence[Event], job: Job | None) -> None:
        if events and time.monotonic() - written >= WRITE_EVERY_S:
            write()
        tell_people(events, job)

    runs, choose = way or (executor, None)
    until_s = None if budget_s is None else time.monotonic() + budget_s
    try:
        if on is not None:
            ended = on(folder, tell, console, until_s)
        else:
            ended = carry_out(folder, runs(folder, manifest, machine, console), boot_id(), tell, until_s, choose)
    except Stopped as stopped:
        stopped.take()
        ended = False
    except Refused:
        if fresh:
            unmake(folder)
        raise
    write()
    if not ended:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if failed_jobs(read_events(folder)) else EXIT_OK


def boot_id() -> str:
    return host_state().boot_id or "unknown"


def executor(folder: Path, manifest: Manifest, machine: Machine, console: Console) -> Execute:
    """Each job is an ordinary run in a folder of its own. What refuses the first is said of the whole experiment."""

    def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        try:
            asked = [_run_of(manifest, job, run, machine) for job, run in zip(jobs, runs, strict=True)]
            results = session.run_windows(asked, machine, console)
        except Refused as error:
            if not any(event.event in ENDED for event in read_events(folder)):
                raise
            return [Outcome("refused", reason=str(error))] * len(jobs)
        except InnerloopError as error:
            return [Outcome("failed", reason=str(error))] * len(jobs)
        return [outcome_of(result) for result, _ in results]

    return execute


def run_grid(folder: Path, manifest: Manifest, machine: Machine, console: Console) -> Execute:
    """Each job is an ordinary run in a folder of its own, and one that is refused or fails takes nothing from the
    others: those of a process behind it are run again in another one."""
    kept = {cell.name for cell in manifest.cells if cell.address is not None}

    def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        outcomes, asked = dict[Job, Outcome](), []
        for job, run in zip(jobs, runs, strict=True):
            try:
                asked.append((job, _run_of(manifest, job, run, machine)))
            except Refused as error:
                outcomes[job] = Outcome("refused", reason=str(error))
        runs_kept = {job: (spec, _words(manifest, job)) for job, (spec, _) in asked if job.cell in kept}
        addresses = addresses_now(runs_kept, machine)
        try:
            results = session.run_windows([one for _, one in asked], machine, console) if asked else []
            for (job, _), (result, run) in zip(asked, results, strict=True):
                outcomes[job] = outcome_of(result)
                if outcomes[job].state == "done" and job in addresses:
                    remember(addresses[job], event_of(job, boot_id(), outcomes[job]), run)
            _reach_again([job for job, _ in asked], outcomes, [result for result, _ in results])
        except Refused as error:
            if len(asked) > 1:  # not all need be the cause
                alone = {job: execute([job], [run]) for job, run in zip(jobs, runs, strict=True) if job not in outcomes}
                return [outcomes.get(job) or alone[job][0] for job in jobs]
            outcomes |= {job: Outcome("refused", reason=str(error)) for job, _ in asked}
        except InnerloopError as error:
            outcomes |= {job: Outcome("failed", reason=str(error)) for job, _ in asked}
        return [outcomes[job] for job in jobs]

    return execute


def _reach_again(jobs: Sequence[Job], outcomes: dict[Job, Outcome], results: Sequence[Result]) -> None:
    """Where a process failed in a window, those behind it were not reached; where it did not load, all have failed."""
    failed = [k for k, job in enumerate(jobs) if outcomes[job].state == "failed"]
    if failed and results[failed[0]].startup_s.load is not None:
        outcomes |= {jobs[k]: Outcome("unreached") for k in failed[1:]}


def _run_of(manifest: Manifest, job: Job, run: Path, machine: Machine) -> tuple[RunSpec, Options]:
    """The run that a job is, and how it is made.

    Raises:
        Refused: it cannot be run here.
    """
    words = _words(manifest, job)
    place = ExperimentPlace(manifest.id, manifest.design, job.cell, job.block)
    profile = _profile(manifest.options) if _is_profiled(manifest, job) else None
    spec, options = run_of_words(words, run, machine, place, profile)
    if job.block == 1 and manifest.options.get("verify"):
        options = replace(options, verify=True, keep_token_ids=True)
    return spec, options


def _words(manifest: Manifest, job: Job) -> Sequence[str]:
    """The command line of a job's cell."""
    return list(next(cell.request["arguments"] for cell in manifest.cells if cell.name == job.cell))


def run_of_words(
    words: Sequence[str], run: Path, machine: Machine, place: ExperimentPlace, profile: Profile | None = None
) -> tuple[RunSpec, Options]:
    """The run that a command line asks for, as a part of an experiment.

    Raises:
        Refused: it cannot be run here.
    """
    arguments = parser().parse_args(list(words))
    options = options_of(arguments, run, profile)
    return resolve(request_of(arguments), machine), replace(options, numbered=False, experiment=place)


def _is_profiled(manifest: Manifest, job: Job) -> bool:
    """`profiled`: the cell, or the cells, whose first run is; None: none."""
    profiled = manifest.options.get("profiled")
    return job.block == 1 and job.cell in ([profiled] if isinstance(profiled, str) else profiled or [])


def _profile(options: Mapping[str, Any]) -> Profile | None:
    return choose(options.get("profiler"), options.get("profiler_steps"))


def outcome_of(result: Result) -> Outcome:
    if interrupted(result):
        return Outcome("interrupted", result.status)
    if result.failure is not None:
        return Outcome("failed", result.status, reason=result.failure.message)
    figures = {one.name: value_of(result, one.name) for one in FIGURES}
    return Outcome("done", result.status, figures, values=values_of(result), doubts=suspect_codes(result.reasons))


def teller(folder: Path, manifest: Manifest, console: Console) -> Tell:
    """Says before each process which it is, how long it may take yet, and what the figure is so far."""
    begun, done_before = time.monotonic(), len(_ended(read_events(folder)))
    total = manifest.blocks * len(manifest.measured)
    unit = "probe" if manifest.design == FIND_RATE else "trial"
    most = "at most " if manifest.until is not None or manifest.design in (FIND_RATE, BISECT) else ""

    def tell(events: Sequence[Event], job: Job | None) -> None:
        done = len(_ended(events))
        if not manifest.kept and (line := so_far(manifest, events)) is not None:
            console.print(line, style="dim", highlight=False)
        if job is None:
            return
        chosen = manifest.design in (FIND_RATE, BISECT)  # by what is found: how many are left is not known
        words = f"{unit} {job.block} of {most}{manifest.blocks}" + ("" if chosen else f" (run {done + 1} of {total})")
        if not manifest.together and len(manifest.cells) > 1:
            words = f"{job.cell}, {words}"
        elapsed = time.monotonic() - begun
        if done > done_before and not chosen:
            words += f", {elapsed:.0f} s elapsed, about {elapsed / (done - done_before) * (total - done):.0f} s left"
        console.rule(words, style="dim")

    return tell


def so_far(manifest: Manifest, events: Sequence[Event]) -> str | None:
    """The figure that is asked about after the blocks that are whole."""
    metric = metric_of(manifest)
    if two_sided(manifest):
        return _ratio_so_far(manifest, events, metric)
    looks = None if manifest.until is None else manifest.blocks
    cells = {cell.key: cell.name for cell in reversed(manifest.cells)}
    told = []
    for key, values in by_key(manifest, events).items():
        found = mean_of_processes(values, looks)
        width = half_width(found)
        if found.count:
            told.append(f"{cells[key]} {number(found.estimate)}" + (f" ±{share(width)}" if width is not None else ""))
    if not told:
        return None
    until = "" if manifest.until is None else f"; stops at ±{share(manifest.until)}"
    return f"{short_name(metric)} so far: {', '.join(told)}{until}"


def _ratio_so_far(manifest: Manifest, events: Sequence[Event], metric: str) -> str | None:
    a, b = sides_of(manifest, events)
    if not len(a):
        return None
    ratio = paired_ratio(a, b) if manifest.until is None else looks_interval(a, b, manifest.blocks)
    bounds = "" if ratio.low is None else f" ({ends(ratio.low, ratio.high, partial(number, digits=4))})"
    until = "" if manifest.until is None else f"; stops at ±{share(manifest.until)}"
    return f"{short_name(metric)}, B / A after trial {len(a)}: {number(ratio.estimate, 4)}{bounds}{until}"


def _ended(events: Sequence[Event]) -> list[Event]:
    return [event for event in latest(events).values() if event.event in ENDED]
