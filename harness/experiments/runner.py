"""The loop of every experiment: what is left to run is asked for, run and written down, until nothing is left.

All state is in the folder, so to resume is to call the loop again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from innerloop.harness.cli.signals import Stopped, hold
from innerloop.harness.experiments.blocks import Job, jobs_left
from innerloop.harness.experiments.folder import RUNS, locked, put_aside, read_events, read_manifest
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


Execute = Callable[[Sequence[Job], Sequence[Path]], Sequence[Outcome]]
"""Runs the jobs of one process, each into a folder that does not exist yet."""
Tell = Callable[[Sequence[Event], Job | None], None]  # what has happened so far, and the job that is next


def carry_out(folder: Path, execute: Execute, boot: str, tell: Tell) -> bool:
    """Runs what is left of the experiment in `folder`; False if a job was interrupted.

    `boot`: the machine's boot id. `tell` is called before each process, and at the end with None.

    Raises:
        Refused: it is no experiment, or another process is running it.
    """
    manifest = read_manifest(folder)
    with locked(folder), hold() as held:
        while True:
            events = read_events(folder)
            jobs = next_jobs(manifest, events, boot)
            tell(events, jobs[0] if jobs else None)
            if not jobs:
                return True
            runs = [folder / RUNS / job.name for job in jobs]
            for job, run in zip(jobs, runs, strict=True):
                put_aside(run)
                _note(folder, job, boot, Outcome("started"))
            try:
                with held.released():
                    outcomes = execute(jobs, runs)
            except Stopped as stopped:
                stopped.take()
                outcomes = [Outcome("interrupted")] * len(jobs)
            for job, outcome in zip(jobs, outcomes, strict=True):
                _note(folder, job, boot, outcome)
            if any(outcome.state == "interrupted" for outcome in outcomes):
                return False


def next_jobs(manifest: Manifest, events: Sequence[Event], boot: str) -> list[Job]:
    """What the next process runs; empty where nothing is left, or what is known is precise enough."""
    left = [] if precise(manifest, events) else jobs_left(manifest, events, boot)
    return [job for job in left if manifest.together and job.block == left[0].block] or left[:1]


def _note(folder: Path, job: Job, boot: str, outcome: Outcome) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    event = Event(outcome.state, job.cell, job.block, boot, now, outcome.status, outcome.figures, outcome.reason)
    journal.append(folder, event)
