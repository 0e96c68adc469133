"""The loop of every experiment: what is left to run is asked for, run and written down, until nothing is left.

All state is in the folder, so to resume is to call the loop again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from innerloop.harness.cli.signals import Stopped, hold
from innerloop.harness.experiments.blocks import Job, jobs_left
from innerloop.harness.experiments.folder import RUNS, check_kept, kept, locked, put_aside, read_events, read_manifest
from innerloop.harness.experiments.stopping import precise
from innerloop.harness.schema.experiment import Event, Manifest, State
from innerloop.harness.store import journal


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended."""

    state: State
    status: str | None = None
    figures: Mapping[str, float | None] = field(default_factory=dict)
    reason: str | None = None
    run: str | None = None  # its folder, where that is none of this experiment
    values: Mapping[str, int] = field(default_factory=dict)
    doubts: Sequence[str] = ()  # codes of what makes its run suspect


Execute = Callable[[Sequence[Job], Sequence[Path]], Sequence[Outcome]]
"""Runs the jobs of one process, each into a folder that does not exist yet."""
Choose = Callable[[Manifest, Sequence[Event], str], Sequence[Job]]  # what the next process runs; the boot id
Tell = Callable[[Sequence[Event], Job | None], None]  # what has happened so far, and the job that is next


def carry_out(
    folder: Path, execute: Execute, boot: str, tell: Tell, until_s: float | None = None, choose: Choose | None = None
) -> bool:
    """Runs what is left of the experiment in `folder`; False if a job was interrupted.

    `boot`: the machine's boot id. `tell` is called before each process, and at the end with None. `until_s`: no process
    begins after this moment of `time.monotonic`; None: until nothing is left. `choose`: what the next process runs;
    None: `next_jobs`.

    Raises:
        Refused: it is no experiment, or another process is running it.
        InnerloopError: its folder is removed or renamed meanwhile.
    """
    manifest = read_manifest(folder)
    with kept(folder), locked(folder), hold() as held:
        events = read_events(folder)

        def note(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
            new = [event_of(job, boot, one) for job, one in zip(jobs, outcomes, strict=True)]
            for event in new:
                journal.append(folder, event)
            events.extend(new)

        while True:
            jobs = (choose or next_jobs)(manifest, events, boot)
            if until_s is not None and time.monotonic() >= until_s:
                jobs = []
            tell(events, jobs[0] if jobs else None)
            if not jobs:
                return True
            runs = [folder / RUNS / job.name for job in jobs]
            for run in runs:
                put_aside(run)
            note(jobs, [Outcome("started")] * len(jobs))
            try:
                with held.released():
                    outcomes = execute(jobs, runs)
            except Stopped as stopped:
                stopped.take()
                outcomes = [Outcome("interrupted")] * len(jobs)
            check_kept(folder)
            note(jobs, outcomes)
            if any(outcome.state == "interrupted" for outcome in outcomes):
                return False


def next_jobs(manifest: Manifest, events: Sequence[Event], boot: str) -> list[Job]:
    """What the next process runs; empty where nothing is left, or what is known is precise enough."""
    left = [] if precise(manifest, events) else jobs_left(manifest, events, boot)
    if not left or manifest.together:
        return [job for job in left if job.block == left[0].block]
    process = {cell.name: cell.process for cell in manifest.cells}
    mine = process.get(left[0].cell)
    return [job for job in left if job.block == left[0].block and mine and process[job.cell] == mine] or left[:1]


def event_of(job: Job, boot: str, outcome: Outcome, node: str | None = None) -> Event:
    """What the journal says of it, now. node: of a cluster."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    told = (outcome.status, outcome.figures, outcome.reason, outcome.run)
    return Event(outcome.state, job.cell, job.block, boot, now, *told, node, outcome.values, tuple(outcome.doubts))
