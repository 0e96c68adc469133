"""Speeds over a steady window, with intervals by batches of it."""

from __future__ import annotations

import itertools

import numpy as np

from innerloop.harness.analysis.chunks import added
from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.statistics import BATCHES, LEAST_BLOCKS, LEAST_PER_BATCH, Interval, ratio_interval


def output_rate(steps: np.ndarray, start_ns: int, end_ns: int) -> Interval:
    """Output tokens a second of (start_ns, end_ns], by batches of steps that follow each other.

    `steps` is of dtype STEP. Tokens count when their step ends; a batch lasts from the end of the one before to its
    own, the first from `start_ns` and the last to `end_ns`.
    """
    inside = steps[(steps["end_ns"] > start_ns) & (steps["end_ns"] <= end_ns)]
    tokens = inside["output_tokens"]
    batches = _batches(len(inside))
    if end_ns <= start_ns or not batches:
        return Interval(None, None, None, 0)
    opens = np.linspace(0, len(inside), batches + 1).astype(np.int64)[:-1]
    edges = np.concatenate(([start_ns], np.maximum.accumulate(inside["end_ns"])[opens[1:] - 1], [end_ns]))
    return ratio_interval(np.add.reduceat(tokens, opens, dtype=np.float64), np.diff(edges) * NS)


def rate_per_user(arrived_ns: np.ndarray, gap_ns: np.ndarray, count: np.ndarray) -> Interval:
    """How fast one user's text grows, in tokens/s: 1 / mean ITL, by equal slices of time.

    `arrived_ns`, `gap_ns`, `count` int [arrivals] in order of time, as `latency.arrival_gaps` gives them. The
    interval's count is that of slices; the tokens are `count.sum()`.
    """
    batches = _batches(len(arrived_ns))
    if not batches or added(gap_ns) <= 0:
        return Interval(None, None, None, 0)
    edges = np.ceil(np.linspace(arrived_ns[0], arrived_ns[-1], batches + 1)[1:-1]).astype(arrived_ns.dtype)
    bounds = [0, *np.searchsorted(arrived_ns, edges).tolist(), len(arrived_ns)]  # of one dtype: no copy of the times
    return ratio_interval(_sums(count, bounds), _sums(gap_ns, bounds) * NS)


def _sums(column: np.ndarray, bounds: list[int]) -> np.ndarray:
    return np.array([added(column[a:b]) for a, b in itertools.pairwise(bounds)], dtype=np.float64)


def _batches(values: int) -> int:
    """Into how many batches so many values are cut: 0 if there are none, 1 if no interval can be had."""
    batches = min(BATCHES, values // LEAST_PER_BATCH)
    return batches if batches >= LEAST_BLOCKS else min(values, 1)
