"""What an experiment runs next: pure functions of its manifest and of what its journal says has been run."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

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
    cells = [cell.name for cell in manifest.cells]
    if manifest.order == "random":
        random.Random(f"{manifest.seed} {block}").shuffle(cells)
    elif block % 2 == 0:
        cells.reverse()
    return [Job(cell, block) for cell in cells]


def latest(events: Sequence[Event]) -> dict[str, Event]:
    """The newest event of each job, by its name."""
    return {event.job: event for event in events}


def whole_blocks(manifest: Manifest, events: Sequence[Event]) -> list[dict[str, Event]]:
    """The blocks whose jobs have all ended under one boot of the machine, each by the cell's name, in order."""
    found = latest(events)
    out = []
    for block in range(1, manifest.blocks + 1):
        ended = {job.cell: found[job.name] for job in block_of(manifest, block) if job.name in found}
        if len(ended) == len(manifest.cells) and _comparable(ended.values()):
            out.append(ended)
    return out


def jobs_left(manifest: Manifest, events: Sequence[Event], boot: str) -> list[Job]:
    """What is still to be run, in order. A block that was cut by a restart of the machine is run again whole, and so is
    one that is a process."""
    found = latest(events)
    left: list[Job] = []
    for block in range(1, manifest.blocks + 1):
        jobs = block_of(manifest, block)
        ended = [found[job.name] for job in jobs if job.name in found and found[job.name].event in ENDED]
        if len(ended) == len(jobs) and _comparable(ended):
            continue
        again = manifest.together or any(event.boot != boot for event in ended)
        names = set() if again else {event.job for event in ended}
        left += [job for job in jobs if job.name not in names]
    return left


def _comparable(events: Collection[Event]) -> bool:
    return all(event.event in ENDED for event in events) and len({event.boot for event in events}) == 1
