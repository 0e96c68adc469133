"""What prefill does to requests that decode: their tokens wait for the prompts that share their steps."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.order import by_request
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
    tokens = sane(tokens, len(steps), len(requests))
    gap, previous, this, count = gaps(tokens)
    before = np.concatenate(([0], np.cumsum(prefill > 0)))
    waited = before[this + 1] > before[previous + 1]  # some step after the previous token's, up to this one's
    each = gap // np.maximum(count, 1)  # tokens that came together took a part each
    stalled = np.repeat(each[waited], count[waited])
    clean = np.repeat(each[~waited], count[~waited])
    tokens_after = len(stalled) + len(clean)
    lost = np.maximum(stalled - np.median(clean), 0).sum() if len(clean) and len(stalled) else None
    time = float(gap.sum())
    return Interference(
        with_prefill=summary(stalled, NS),
        decode_only=summary(clean, NS),
        stalled_share=len(stalled) / tokens_after if tokens_after else None,
        lost_share=None if lost is None or time <= 0 else float(lost) / time,
    )


def gaps(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(ns since the request's previous arrival, that one's step, this one's step, tokens), int64 [gaps] each."""
    if len(tokens) < 2:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty, empty, empty
    order = by_request(tokens["request"])
    request, step, time = tokens["request"][order], tokens["step"][order], tokens["time_ns"][order]
    same = request[1:] == request[:-1]
    count = tokens["count"][order][1:][same].astype(np.int64)
    return np.diff(time)[same], step[:-1][same], step[1:][same], count
