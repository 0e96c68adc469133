"""A bisection's journal: which versions were compared in which block, what that says, and what is compared next."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from innerloop.harness.analysis.bisection import NONE, Observation, Posterior, decided, merged, next_version, posterior
from innerloop.harness.experiments.blocks import ENDED, Job, latest
from innerloop.harness.result.figures import FIGURES, TOO_FEW, too_few
from innerloop.harness.schema.experiment import Event, Manifest

BISECT = "bisect"  # the design
WHY_BLOCKS = 3  # of the culprit beside the version before it, for the comparison at the end


@dataclass(frozen=True, slots=True)
class Pair:
    """A block: the places of the two versions that are compared in it. last: it is one of those at the end."""

    block: int
    first: int
    second: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """Where a bisection stands. found: the culprit's place, NONE, or None where it is not decided. open: the pair that
    is being compared or is next; None where it is over."""

    posterior: Posterior
    found: int | None
    before: int | None
    pairs: tuple[Pair, ...]
    open: Pair | None
    untestable: Mapping[int, str]
    seen: tuple[Observation, ...]


def better_of(metric: str) -> str:
    return next(one.better for one in FIGURES if one.name == metric)


def state(manifest: Manifest, events: Sequence[Event]) -> State:
    """What the blocks so far say, one after the other."""
    newest = latest(events)
    cells, options = [cell.name for cell in manifest.cells], manifest.options
    untestable: dict[int, str] = {}  # as far as the blocks before show
    seen: list[Observation] = []
    pairs: list[Pair] = []
    while True:
        now = posterior(len(cells), seen, options["effect"])
        found = decided(merged(now.probabilities, untestable), options["certainty"])
        before = None if found in (None, NONE) else _before(found, untestable)
        pair = _next(len(pairs) + 1, now, found, before, pairs, untestable, manifest.blocks)
        if pair is None or not _whole(pair, cells, newest):
            return State(now, found, before, tuple(pairs), pair, untestable, tuple(seen))
        pairs.append(pair)
        for place in (pair.first, pair.second):
            event = newest[Job(cells[place], block=pair.block).name]
            if event.event != "done":
                untestable[place] = event.reason or event.event
        ratio = log_ratio(pair, cells, newest, options["metric"])
        if ratio is None and not pair.last:
            untestable = _unmeasured(pair, cells, newest, options["metric"]) | untestable
        if pair.first == 0 and not pair.last and ratio is not None:
            seen.append(Observation(pair.second, ratio))


def _before(found: int, untestable: Mapping[int, str]) -> int:
    return next(k for k in range(found - 1, -1, -1) if k not in untestable or k == 0)


def _next(
    block: int,
    now: Posterior,
    found: int | None,
    before: int | None,
    pairs: Sequence[Pair],
    untestable: Mapping[int, str],
    most: int,
) -> Pair | None:
    if 0 in untestable:
        return None
    if found == NONE:
        return None
    if found is not None and before is not None:
        last = sum(pair.last for pair in pairs)
        return Pair(block, before, found, last=True) if last < WHY_BLOCKS else None
    version = next_version(now.probabilities, untestable.keys())
    return None if version is None or block > most else Pair(block, 0, version)


def jobs_of(pair: Pair, manifest: Manifest) -> list[Job]:
    """Both runs of a block, in random order."""
    jobs = [Job(manifest.cells[place].name, pair.block) for place in (pair.first, pair.second)]
    random.Random(f"{manifest.seed} {pair.block}").shuffle(jobs)
    return jobs


def _whole(pair: Pair, cells: Sequence[str], newest: Mapping[str, Event]) -> bool:
    """Whether both runs have ended, under one boot of the machine."""
    events = [newest.get(Job(cells[place], pair.block).name) for place in (pair.first, pair.second)]
    known = [event for event in events if event is not None and event.event in ENDED]
    return len(known) == 2 and len({event.boot for event in known}) == 1


def log_ratio(pair: Pair, cells: Sequence[str], newest: Mapping[str, Event], metric: str) -> float | None:
    """Of the second version's figure to the first's, negative where it is worse; None where one has none."""
    a, b = (newest[Job(cells[place], pair.block).name].figures.get(metric) for place in (pair.first, pair.second))
    if not a or not b or a <= 0 or b <= 0:
        return None
    return math.log(b / a) * (1 if better_of(metric) == "higher" else -1)


def _unmeasured(pair: Pair, cells: Sequence[str], newest: Mapping[str, Event], metric: str) -> dict[int, str]:
    """Why versions whose runs came to their end cannot be compared: they lack the figure, and so would others."""
    found: dict[int, str] = {}
    for place in (pair.first, pair.second):
        event = newest[Job(cells[place], block=pair.block).name]
        if event.event == "done" and not event.figures.get(metric):
            reason = too_few(metric, {"": [event.values]})
            found[place] = f"{reason}; {TOO_FEW}" if reason is not None else f"its run has no {metric}, or it is 0"
    return found


def next_pair(manifest: Manifest, events: Sequence[Event], boot: str) -> list[Job]:
    """What runs next, one run a process; a block that a restart of the machine cut is run again whole."""
    now = state(manifest, events)
    if now.open is None:
        return []
    newest = latest(events)
    jobs = jobs_of(now.open, manifest)
    done = [event for job in jobs if (event := newest.get(job.name)) is not None and event.event in ENDED]
    if any(event.boot != boot for event in done):
        return jobs[:1]
    return [job for job in jobs if job.name not in {event.job for event in done}][:1]
