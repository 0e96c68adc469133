"""What an experiment runs next: pure functions of its manifest and of what its journal says has been run."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from innerloop.harness.schema.experiment import Event, Manifest

ENDED = ("done", "failed", "refused")
A, B = "A", "B"  # the cells of an experiment that compares


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a cell, in a fresh process, or in one with the other jobs of its block where the manifest says so. The
    jobs of a block are compared with each other: they run next to each other in time, on one machine that is not
    started anew between them."""

    cell: str
    block: int

    @property
    def name(self) -> str:
        return f"{self.cell}-{self.block}"


def block_of(manifest: Manifest, block: int) -> list[Job]:
    """The jobs of a block in their order. There and back: a machine that slowly gets faster or slower does so for all
    cells alike."""
    processes = list(_processes(manifest))
    if manifest.order == "random":
        chance = random.Random(f"{manifest.seed} {block}")
        chance.shuffle(processes)
        for cells in processes:
            chance.shuffle(cells)
    elif block % 2 == 0:
        processes = [cells[::-1] for cells in reversed(processes)]
    return [Job(cell, block) for cells in processes for cell in cells]


def _processes(manifest: Manifest) -> Collection[list[str]]:
    """The names of the cells that are run, those that share a process together."""
    found: dict[str, list[str]] = {}
    for cell in manifest.measured:
        found.setdefault(cell.process or f" {cell.name}", []).append(cell.name)
    return found.values()


def seconds_between(start: str | None, end: str) -> float | None:
    """Of two times of a journal, which may be damaged; None where that is not known."""
    if start is None:
        return None
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (ValueError, TypeError):  # no time, or one without the zone that the other has
        return None


def latest(events: Sequence[Event]) -> dict[str, Event]:
    """The newest event of each job, by its name."""
    return {event.job: event for event in events}


def whole_blocks(manifest: Manifest, events: Sequence[Event]) -> list[dict[str, Event]]:
    """The blocks whose jobs have all ended under one boot of the machine, each by the cell's name, in order."""
    found = latest(events)
    out = []
    for block in range(1, manifest.blocks + 1):
        ended = {job.cell: found[job.name] for job in block_of(manifest, block) if job.name in found}
        if len(ended) == len(manifest.measured) and _comparable(manifest, ended.values()):
            out.append(ended)
    return out


def jobs_left(manifest: Manifest, events: Sequence[Event], boot: str) -> list[Job]:
    """What is still to be run, in order. A block that was cut by a restart of the machine is run again whole, unless
    the manifest says that what is done is kept, and so is one that is a process."""
    found = latest(events)
    left: list[Job] = []
    for block in range(1, manifest.blocks + 1):
        jobs = block_of(manifest, block)
        ended = [found[job.name] for job in jobs if job.name in found and found[job.name].event in ENDED]
        if len(ended) == len(jobs) and _comparable(manifest, ended):
            continue
        again = manifest.together or (not manifest.kept and any(event.boot != boot for event in ended))
        names = set() if again else {event.job for event in ended}
        left += [job for job in jobs if job.name not in names]
    return left


def _comparable(manifest: Manifest, events: Collection[Event]) -> bool:
    return all(event.event in ENDED for event in events) and (manifest.kept or len({e.boot for e in events}) == 1)
