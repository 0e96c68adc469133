"""Which requests kept latency limits, and whether so many that a limit at a quantile holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from innerloop.harness.analysis.latency import finished
from innerloop.harness.analysis.statistics import (
    BATCHES,
    CONFIDENCE,
    LEAST_PER_BATCH,
    Interval,
    batch_error,
    wilson_interval,
)
from innerloop.harness.schema.goodput import Goodput, Limit, LimitKept

NS = 1e-9
KEPT, BROKEN, UNKNOWN = 1, 0, -1


def goodput(requests: np.ndarray, first: np.ndarray, limits: Sequence[Limit], start_ns: int, end_ns: int) -> Goodput:
    """Of the requests (dtype REQUEST) that were due in [start, end]; `first` is `latency.first_tokens` of them."""
    due = (requests["due_ns"] >= 0) & (requests["due_ns"] <= end_ns) & (requests["submitted_ns"] >= 0)
    order = np.argsort(requests["due_ns"][due], kind="stable")
    rows, first = requests[due][order], first[due][order]
    judged = [(limit, judge(rows, first, limit, end_ns)) for limit in limits]
    good = finished(rows)
    for _, kept in judged:
        good &= kept != BROKEN
    seconds = (end_ns - start_ns) * NS
    return Goodput(
        limits=tuple(_kept(limit, kept) for limit, kept in judged),
        due=len(rows),
        good=int(good.sum()),
        share=float(good.mean()) if len(rows) else None,
        requests_per_s=float(good.sum()) / seconds if start_ns > 0 and seconds > 0 else None,
    )


def judge(rows: np.ndarray, first: np.ndarray, limit: Limit, end_ns: int) -> np.ndarray:
    """KEPT, BROKEN or UNKNOWN, int8 [requests]. What had not ended at `end_ns` is BROKEN where it can no longer keep
    the limit, else UNKNOWN. Where there is such a one, those that ended but came as late are UNKNOWN, too: only the
    quick ones of them ended in time, all KEPT. A request without a token after its first arrival has no TPOT: UNKNOWN,
    and it breaks none.
    """
    ended = finished(rows)
    due, first_ns, last_ns = rows["due_ns"], rows["first_token_ns"], rows["last_token_ns"]
    begun = first_ns >= 0
    if limit.figure == "ttft":
        value, known, open_ = first_ns - due, begun, ~begun
        seen = end_ns - due
    elif limit.figure == "e2e":
        value, known, open_ = last_ns - due, ended, ~ended
        seen = end_ns - due
    else:
        after = rows["output_tokens"] - np.maximum(first, 1)
        value = (last_ns - first_ns) / np.maximum(after, 1)
        known = ended & (after > 0)
        asked = rows["asked_tokens"] - np.maximum(first, 1)
        open_ = begun & ~ended & (asked > 0)
        seen = np.where(begun & (asked > 0), end_ns - first_ns, 0) / np.maximum(asked, 1)
    limit_ns = round(limit.limit_s * 1e9)  # 0.5 / 1e-9 is less than half of 1e9
    out = np.full(len(rows), UNKNOWN, dtype=np.int8)
    out[known] = np.where(value <= limit_ns, KEPT, BROKEN)[known]
    out[open_ & (seen > limit_ns)] = BROKEN
    if (open_ & (seen <= limit_ns)).any():
        out[seen <= limit_ns] = UNKNOWN
    return out


def _kept(limit: Limit, judged: np.ndarray) -> LimitKept:
    known = (judged[judged != UNKNOWN] == KEPT).astype(np.float64)
    inflation = clustering(known)
    found = share_kept(int(known.sum()), len(known), inflation)
    return LimitKept(
        figure=limit.figure,
        quantile=limit.quantile,
        limit_s=limit.limit_s,
        judged=len(known),
        kept=int(known.sum()),
        share=found.estimate,
        low=found.low,
        high=found.high,
        clustering=inflation,
        holds=holds(found, limit.quantile),
    )


def fewest(quantile: float) -> int:
    """How many requests decide that a limit at a quantile is met, if all of them met it: Wilson's lower end is then
    n / (n + z^2)."""
    return math.ceil(quantile / (1 - quantile) * NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) ** 2)


def clustering(kept: np.ndarray) -> float:
    """How many times the variance of the share (float [requests] of 0 and 1, in order of due times) over batches of
    time is that of independent requests: violations come together. At least 1."""
    n = len(kept)
    share = float(kept.mean()) if n else 0.0
    if n < BATCHES * LEAST_PER_BATCH or not 0 < share < 1:
        return 1.0
    edges = np.linspace(0, n, BATCHES + 1).astype(np.int64)
    means = np.add.reduceat(kept, edges[:-1]) / np.diff(edges)
    return max(batch_error(means) ** 2 / (share * (1 - share) / n), 1.0)


def share_kept(kept: int, judged: int, inflation: float) -> Interval:
    """The share with Wilson's interval at the number of independent requests that `judged` clustered ones stand for."""
    if judged == 0:
        return Interval(None, None, None, 0)
    alone = max(round(judged / inflation), 1)
    found = wilson_interval(round(kept / judged * alone), alone)
    low, high = found.low, found.high
    share = kept / judged
    return Interval(share, min(low or 0.0, share), max(high or 1.0, share), alone)


def holds(share: Interval, quantile: float) -> bool | None:
    """Whether a limit holds at its quantile; None where the interval does not say."""
    if share.low is None or share.high is None:
        return None
    if share.low >= quantile:
        return True
    return False if share.high < quantile else None
