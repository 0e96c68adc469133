"""Sessions: turns that follow each other, each of whose prompts is the conversation so far and what it adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from innerloop.harness.profiles import Seeds, WorkloadProfile
from innerloop.harness.profiles.loads import Sessions
from innerloop.harness.workloads import draws, lengths, mixes
from innerloop.harness.workloads.arrivals import NS, Schedule, none, scalar, think_ns
from innerloop.harness.workloads.content import Pieces
from innerloop.harness.workloads.parts import Parts
from innerloop.harness.workloads.rates import at_rate, bounded


def conversations(workload: WorkloadProfile, plan: Sessions, seeds: Seeds, folder: Path | None = None) -> Parts:
    """Session after session, each one's turns in order.

    Raises:
        Refused: more turns than can be prepared, or a lengths file that cannot be used.
    """
    turns = lengths.draw(plan.turns, plan.sessions, seeds.lengths, lengths.TURNS, folder)
    count, first = bounded(int(turns.sum())), np.cumsum(turns) - turns
    session = np.repeat(np.arange(plan.sessions, dtype=np.int64), turns)
    begins = np.zeros(count, dtype=bool)
    begins[first] = True
    class_of = mixes.classes_of(workload, plan.sessions, seeds.lengths)[session]
    own, outputs = mixes.lengths_of(workload, class_of, seeds, folder)
    pieces = _without_prefix(mixes.prompts_of(workload, own, class_of, seeds.content), own, ~begins)
    total = pieces.prompt_lens + outputs
    before = np.cumsum(total) - total
    schedule = _schedule(plan, turns, first, begins, seeds.schedule)
    return Parts(
        pieces=pieces,
        outputs=outputs,
        schedule=schedule,
        history=before - before[first][session],
        class_of=class_of.astype(np.int32) if workload.classes is not None else None,
        classes=tuple(one.name for one in workload.classes or ()),
        sessions=plan.sessions,
    )


def _without_prefix(pieces: Pieces, own: draws.Ints, later: np.ndarray) -> Pieces:
    """Turns after the first have only their own piece, with all their tokens."""
    counts = np.diff(pieces.offsets)
    request = np.repeat(np.arange(len(own)), counts)
    is_last = np.arange(len(request)) == pieces.offsets[1:][request] - 1
    keep = is_last | ~later[request]
    lens = np.where(later[request] & is_last, own[request], pieces.lens)
    kept = np.bincount(request[keep], minlength=len(own))
    return Pieces(pieces.keys[keep], lens[keep], np.concatenate([[0], np.cumsum(kept)]).astype(np.int64))


def _schedule(plan: Sessions, turns: draws.Ints, first: draws.Ints, begins: np.ndarray, seed: int) -> Schedule:
    count, sessions = len(begins), len(turns)
    due, following, user = np.full(count, -1, dtype=np.int64), none(count), none(count)
    following[:-1] = np.where(begins[1:], -1, np.arange(1, count))
    if plan.rate_per_s is not None:
        due[first] = at_rate(plan.rate_per_s, plan.arrivals, sessions, seed)
    else:
        users = min(plan.users or 0, sessions)
        due[first[:users]] = np.rint(np.arange(users) * (plan.arrive_over_s * NS / users)).astype(np.int64)
        last = first + turns - 1
        following[last[: sessions - users]] = first[users:]
        user = (np.repeat(np.arange(sessions), turns) % users).astype(np.int32)
    return Schedule(due, following, user, think_ns(plan.think_s, plan.think, count, seed), scalar(-1))
