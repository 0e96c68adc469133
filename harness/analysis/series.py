"""A window cut into equal bins: how batch, queue, KV cache and speed went over time."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.schema.window import OverTime

BINS = 60


def over_time(steps: np.ndarray, start_ns: int, end_ns: int, bins: int = BINS) -> OverTime | None:
    """Time-weighted means of `running`, `waiting` and `kv_usage` a bin, and output tokens/s; None without a window.

    What a step did is spread evenly over its duration, so that bins shorter than a step show its rate and not a comb.
    A bin in which no step ran has None as its means, and 0 tokens/s. Each has `bins` values.
    """
    if end_ns <= start_ns or len(steps) == 0:
        return None
    edges = np.linspace(0, end_ns - start_ns, bins + 1)
    width_s = (end_ns - start_ns) / bins * NS
    tokens = _sum_by_bin(*_spans(steps, start_ns), steps["output_tokens"], edges)
    return OverTime(
        bin_s=width_s,
        running=mean_by_bin(steps, "running", start_ns, edges),
        waiting=mean_by_bin(steps, "waiting", start_ns, edges),
        kv_usage=mean_by_bin(steps, "kv_usage", start_ns, edges),
        output_tokens_per_s=tuple(float(n) / width_s for n in tokens),
    )


def spread_by_bin(steps: np.ndarray, amounts: np.ndarray, start_ns: int, end_ns: int, bins: int = BINS) -> np.ndarray:
    """What steps (dtype STEP) did of something, [steps], by bin of the window: float64 [bins]."""
    return _sum_by_bin(*_spans(steps, start_ns), amounts, np.linspace(0, end_ns - start_ns, bins + 1))


def mean_by_bin(steps: np.ndarray, name: str, start_ns: int, edges: np.ndarray) -> tuple[float | None, ...]:
    """The mean of a column over the time that steps took inside each bin; `edges` count from `start_ns`, in ns.

    Returns len(edges) - 1 values, None where no step ran.
    """
    steps = steps[known(steps[name])]
    if len(steps) == 0:
        return (None,) * (len(edges) - 1)
    begin, end = _spans(steps, start_ns)
    busy = _sum_by_bin(begin, end, end - begin, edges)
    area = _sum_by_bin(begin, end, (end - begin) * steps[name], edges)
    return tuple(float(a / b) if b > 0 else None for a, b in zip(area, busy, strict=True))


def _spans(steps: np.ndarray, start_ns: int) -> tuple[np.ndarray, np.ndarray]:
    """When each step began and ended, float64 ns after `start_ns`; steps that overlap are made to share no time."""
    begin = (steps["start_ns"] - start_ns).astype(np.float64)
    end = np.maximum.accumulate((steps["end_ns"] - start_ns).astype(np.float64))
    begin[1:] = np.maximum(begin[1:], end[:-1])
    return begin, np.maximum(begin, end)


def _sum_by_bin(begin: np.ndarray, end: np.ndarray, amounts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How much of `amounts`, each spread evenly over its span, falls between one edge and the next."""
    after = np.cumsum(amounts, dtype=np.float64)
    running_total = np.column_stack((after - amounts, after)).ravel()  # rises inside a span, is flat between spans
    return np.diff(np.interp(edges, np.column_stack((begin, end)).ravel(), running_total))
