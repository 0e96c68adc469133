"""The requests of a workload, and those that warm up for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from innerloop.harness.profiles import Closed, Offline, Open, Seeds, WorkloadProfile
from innerloop.harness.profiles.loads import Sessions, Trace
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.workloads import draws, mixes
from innerloop.harness.workloads.arrivals import none, scalar, scheduled
from innerloop.harness.workloads.content import Pieces, prompt_ids
from innerloop.harness.workloads.context import check_context
from innerloop.harness.workloads.conversations import conversations
from innerloop.harness.workloads.mixes import OWN
from innerloop.harness.workloads.parts import Parts
from innerloop.harness.workloads.sharing import shared_lens
from innerloop.harness.workloads.traced import traced
from innerloop.harness.workloads.workload import Workload

OPEN_BATCH_S = 10


def build(
    workload: WorkloadProfile,
    model: ModelProfile,
    seeds: Seeds,
    context_length: int,
    base_folder: Path | None = None,
) -> Workload:
    """The requests of a workload for a model's vocabulary; a relative path of a file counts from `base_folder`.

    Raises:
        Refused: prompt + output may exceed `context_length`, a file that cannot be used, or more requests than fit
            into memory.
    """
    if not isinstance(workload.load, Trace):
        check_context(workload, context_length, base_folder)
    parts = _parts(workload, seeds, context_length, base_folder)
    ids = prompt_ids(parts.pieces, model)  # refuses too many, before anything is made of them
    when, history = parts.schedule, None if parts.history is None else parts.history.astype(np.int32)
    order = np.argsort(np.where(when.due_ns < 0, np.iinfo(np.int64).max, when.due_ns), kind="stable")
    return Workload(
        prompt_tokens=ids,
        prompt_offsets=parts.pieces.prompt_offsets,
        output_lens=parts.outputs.astype(np.int32),
        due_ns=when.due_ns,
        next_request=when.next_request,
        user=when.user,
        rest_ns=when.rest_ns,
        duration_ns=when.duration_ns,
        history_lens=history,
        until_ns=when.until_ns,
        spread=when.spread,
        class_of=parts.class_of,
        shared_lens=shared_lens(parts.pieces, order, history),
        classes=parts.classes,
        replayed=parts.replayed,
        sessions=parts.sessions,
    )


def _parts(workload: WorkloadProfile, seeds: Seeds, context_length: int, folder: Path | None) -> Parts:
    plan = workload.load
    if isinstance(plan, Trace):
        return traced(workload, plan, seeds, context_length, folder)
    if isinstance(plan, Sessions):
        return conversations(workload, plan, seeds, folder)
    schedule = scheduled(workload, seeds, folder)
    class_of = mixes.classes_of(workload, len(schedule.due_ns), seeds.lengths)
    own, outputs = mixes.lengths_of(workload, class_of, seeds, folder)
    return Parts(
        pieces=mixes.prompts_of(workload, own, class_of, seeds.content),
        outputs=outputs,
        schedule=schedule,
        class_of=class_of.astype(np.int32) if workload.classes is not None else None,
        classes=tuple(one.name for one in workload.classes or ()),
    )


def warmup(
    workload: WorkloadProfile,
    model: ModelProfile,
    seeds: Seeds,
    max_batch: int,
    base_folder: Path | None = None,
    window: Workload | None = None,
) -> Workload:
    """An offline set like the measured one in lengths and batch size, but with other content and short outputs.

    It has `warmup.requests` requests, else as many as may run at once: `max_batch` at most, and no more than there
    are (offline), one a user (closed loop), or those due within OPEN_BATCH_S on average (open loop). Their lengths
    are those of the first measured requests, outputs cut to `warmup.output_tokens`. Of a trace and of sessions, they
    are those of requests spread over the measured ones, `window`.

    Raises:
        Refused: a lengths file that cannot be used.
    """
    knobs, plan = workload.warmup, workload.load
    if isinstance(plan, Trace | Sessions):
        assert window is not None
        pieces, outputs = _like(window, knobs.requests or max_batch, seeds)
    else:
        count = knobs.requests or min(_together(plan), max_batch)
        class_of = mixes.classes_of(workload, count, seeds.lengths)
        own, outputs = mixes.lengths_of(workload, class_of, seeds, base_folder)
        pieces = mixes.prompts_of(workload, own, class_of, seeds.content, draws.WARMUP)
    count = len(outputs)
    return Workload(
        prompt_tokens=prompt_ids(pieces, model),
        prompt_offsets=pieces.prompt_offsets,
        output_lens=np.minimum(outputs, knobs.output_tokens).astype(np.int32),
        due_ns=np.zeros(count, dtype=np.int64),
        next_request=none(count),
        user=none(count),
        rest_ns=scalar(0),
        duration_ns=scalar(-1),
    )


def _together(plan: Offline | Closed | Open) -> int:
    """How many requests may run at once."""
    if isinstance(plan, Closed):
        return plan.users or max(one.users for one in plan.users_over_time or ())
    return plan.requests if isinstance(plan, Offline) else max(1, round(plan.mean_rate_per_s * OPEN_BATCH_S))


def _like(window: Workload, count: int, seeds: Seeds) -> tuple[Pieces, draws.Ints]:
    """Prompts of their own with the lengths of `count` requests at most, evenly spread over the window's."""
    count = min(count, window.requests)
    chosen = np.arange(count, dtype=np.int64) * window.requests // count
    keys = draws.words(draws.key(seeds.content, draws.WARMUP, OWN), np.arange(count, dtype=np.int64))
    offsets = np.arange(count + 1, dtype=np.int64)
    return Pieces(keys, window.prompt_lens[chosen], offsets), window.output_lens[chosen].astype(np.int64)
