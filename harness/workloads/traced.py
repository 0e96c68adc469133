"""A trace into requests: pieces of content by hash ids, due times, sessions and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from innerloop.harness.profiles import Seeds, WorkloadProfile
from innerloop.harness.profiles.loads import Trace
from innerloop.harness.schema.load import Replayed
from innerloop.harness.workloads import draws
from innerloop.harness.workloads.arrivals import Schedule, none, scalar
from innerloop.harness.workloads.content import Pieces, check_total
from innerloop.harness.workloads.mixes import HASHED, OWN
from innerloop.harness.workloads.parts import Parts
from innerloop.harness.workloads.rates import at_rate
from innerloop.harness.workloads.traces.read import read
from innerloop.harness.workloads.traces.rows import Rows
from innerloop.harness.workloads.traces.select import Replay, fitted


def replay_of(plan: Trace, context_length: int, folder: Path | None = None) -> tuple[Rows, Replay]:
    """The rows of a trace, and those that are replayed with this context.

    Raises:
        Refused: the file cannot be used, or requests are too long.
    """
    rows = read(plan, folder)
    return rows, fitted(rows, plan, context_length, f"the trace {(folder or Path()) / plan.path}")


def traced(
    workload: WorkloadProfile, plan: Trace, seeds: Seeds, context_length: int, folder: Path | None = None
) -> Parts:
    """
    Raises:
        Refused: the file cannot be used, requests are too long, or there are more tokens than fit into memory.
    """
    rows, replay = replay_of(plan, context_length, folder)
    check_total(int(replay.prompts.sum()))
    history = replay.history
    labels = None if rows.labels is None else rows.labels[replay.rows].astype(np.int32)
    return Parts(
        pieces=_pieces(rows, replay, plan, seeds.content),
        outputs=replay.outputs,
        schedule=_schedule(rows, replay, plan, seeds.schedule),
        history=history if history.any() else None,
        class_of=labels,
        classes=rows.names,
        sessions=None if rows.sessions is None else int((replay.begins & (rows.sessions[replay.rows] >= 0)).sum()),
        replayed=Replayed(
            format=rows.format,
            rows=rows.read,
            replayed=len(replay.rows),
            empty=rows.empty,
            out_of_range=rows.out_of_range,
            too_long=replay.changed,
            out_of_order=rows.out_of_order,
            estimated=rows.estimated,
            fit=plan.fit,
            length_scale=replay.scale,
            time_scale=plan.time_scale,
        ),
    )


def _schedule(rows: Rows, replay: Replay, plan: Trace, seed: int) -> Schedule:
    count = len(replay.rows)
    due = np.full(count, -1, dtype=np.int64)
    begins = replay.begins
    if rows.time_ns is not None:
        times = rows.time_ns[replay.rows][begins]
        due[begins] = np.rint((times - times.min()) * plan.time_scale).astype(np.int64)
    elif plan.rate_per_s is not None:
        due[begins] = at_rate(plan.rate_per_s, plan.arrivals, int(begins.sum()), seed)
    else:
        due[begins] = 0
    following, rest = none(count), scalar(0)
    if not begins.all():
        later = np.flatnonzero(~begins)
        following[later - 1] = later
        assert rows.think_ns is not None
        rest = np.rint(rows.think_ns[replay.rows] * plan.time_scale).astype(np.int64)
    return Schedule(due, following, none(count), rest, scalar(-1))


def _pieces(rows: Rows, replay: Replay, plan: Trace, seed: int) -> Pieces:
    """A row's blocks, each with the content that its id has everywhere; rows without are one piece of their own."""
    count = len(replay.rows)
    blocks = np.zeros(count, dtype=np.int64)
    if rows.block_counts is not None:
        blocks = rows.block_counts[replay.rows].astype(np.int64)
    alone = blocks == 0
    pieces = np.where(alone, 1, blocks)
    offsets = np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64)
    request = np.repeat(np.arange(count, dtype=np.int64), pieces)
    place = np.arange(int(offsets[-1]), dtype=np.int64) - offsets[:-1][request]
    size = plan.block_tokens * replay.scale
    begin = np.rint(place * size).astype(np.int64)
    end = np.minimum(np.rint((place + 1) * size).astype(np.int64), replay.prompts[request])
    keys = draws.words(draws.key(seed, draws.CONTENT, OWN), request)
    if rows.block_counts is not None and rows.hash_ids is not None:
        first = np.cumsum(rows.block_counts, dtype=np.int64) - rows.block_counts
        hashed = ~alone[request]
        ids = rows.hash_ids[first[replay.rows][request[hashed]] + place[hashed]]
        keys[hashed] = draws.words(draws.key(seed, draws.CONTENT, HASHED), ids.astype(np.int64))
    whole = alone[request]
    begin[whole], end[whole] = 0, replay.prompts[request[whole]]
    there = end > begin
    kept = np.bincount(request[there], minlength=count)
    return Pieces(keys[there], (end - begin)[there], np.concatenate([[0], np.cumsum(kept)]).astype(np.int64))
