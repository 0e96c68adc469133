"""What prefill does to requests that decode: their tokens wait for the prompts that share their steps."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis import chunks
from innerloop.harness.analysis.chunks import added, scratch
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.order import by_request, opening
from innerloop.harness.analysis.selection import ordered
from innerloop.harness.analysis.summary import summary
from innerloop.harness.analysis.walk import sane
from innerloop.harness.schema.investigation import Interference


def interference(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> Interference | None:
    """Inter-token latency of the tokens that waited for a step with prefill, against those that did not.

    `stalled_share` is the part of all tokens after a first one that waited for prefill, `lost_share` the part of all
    time between tokens that they waited longer than the median of the others. None where the engine does not report
    prefill; shares are None where there are no such tokens.
    """
    prefill = steps["prefill_tokens"]
    if len(steps) == 0 or not known(prefill).all():
        return None
    stalled, clean, time = waits(steps, tokens, requests)
    tokens_after = len(stalled) + len(clean)
    lost = _beyond(stalled, _median(clean)) if len(clean) and len(stalled) else None
    return Interference(
        with_prefill=summary(stalled, NS),
        decode_only=summary(clean, NS),
        stalled_share=len(stalled) / tokens_after if tokens_after else None,
        lost_share=None if lost is None or time <= 0 else lost / time,
    )


def waits(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """(of the tokens after a first one that waited for prefill, of the others, the time between arrivals): ns before
    each token, int64 [tokens], in no order, of tokens that came together a part each; and ns."""
    before = np.concatenate(([0], np.cumsum(steps["prefill_tokens"] > 0)))
    last_step = np.full(len(requests), -1, dtype=np.int64)
    last_ns = np.zeros(len(requests), dtype=np.int64)
    found = scratch(tokens["time_ns"], added(tokens["count"]), np.int64)  # filled from both ends
    low, high, time = 0, len(found), 0
    for rows in chunks.chunks(tokens):
        rows = sane(rows, len(steps), len(requests))
        rows = rows[by_request(rows["request"])]
        request, this, at = rows["request"], rows["step"].astype(np.int64), rows["time_ns"]
        opens = opening(request)
        closes = np.append(opens[1:], len(rows))[: len(opens)] - 1
        previous, since = np.roll(this, 1), np.roll(at, 1)
        previous[opens], since[opens] = last_step[request[opens]], last_ns[request[opens]]
        last_step[request[closes]], last_ns[request[closes]] = this[closes], at[closes]
        later = previous >= 0
        gap, count = (at - since)[later], rows["count"][later]
        waited = before[this[later] + 1] > before[previous[later] + 1]  # a step after the previous token's had prefill
        each = gap // count
        stalled, clean = (np.repeat(each[some], count[some]) for some in (waited, ~waited))
        found[low : low + len(stalled)] = stalled
        found[high - len(clean) : high] = clean
        low, high, time = low + len(stalled), high - len(clean), time + int(gap.sum())
        chunks.give_back(found)
    return found[:low], found[high:], time


def _median(values: np.ndarray) -> float:
    """Of int64 [n > 0]."""
    found, n = ordered(values), len(values)
    return (float(found[(n - 1) // 2]) + float(found[n // 2])) / 2


def _beyond(values: np.ndarray, median: float) -> float:
    """By how much the values lie above it, in all."""
    return float(sum(float(np.maximum(part - median, 0).sum()) for part in chunks.chunks(values)))
