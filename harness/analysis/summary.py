"""One distribution as a few numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from innerloop.harness.analysis import censoring
from innerloop.harness.analysis.chunks import added
from innerloop.harness.analysis.selection import Ordered, ordered
from innerloop.harness.analysis.statistics import quantile_bounds
from innerloop.harness.schema.common import Bounds, Summary
from innerloop.harness.schema.quantiles import values_needed

MOST = 1 << 62  # of a sum that is exact
CENSORED_SHARE = 0.01  # of durations that had not ended, above which those that had do not stand for all


def summary(values: np.ndarray, scale: float = 1.0, *, bounds: bool = False) -> Summary:
    """Mean, quantiles, maximum and count of `values` (any numeric dtype, shape [n]), times `scale`.

    Quantiles are interpolated linearly between the two nearest values, as numpy.quantile does by default; `bounds` adds
    their intervals, for which `values` are in order of time. A quantile is None, and so is its interval, where there
    are fewer values than it needs (`values_needed`). No values: all None, and a count of 0.
    """
    n = len(values)
    if n == 0:
        return Summary(None, None, None, None, None, None, 0)
    found = ordered(values)

    def quantile(q: float) -> float | None:
        if n < values_needed(q):
            return None
        below, part = divmod(q * (n - 1), 1.0)
        low, high = found[int(below)], found[min(int(below) + 1, n - 1)]
        return (float(low) + float(high - low) * part) * scale

    def interval(q: float) -> Bounds | None:
        return _scaled(quantile_bounds(values, found, q), scale) if bounds and n >= values_needed(q) else None

    return Summary(
        mean=mean(values, found) * scale,
        p50=quantile(0.50),
        p90=quantile(0.90),
        p95=quantile(0.95),
        p99=quantile(0.99),
        max=float(found[n - 1]) * scale,
        count=n,
        p50_ci=interval(0.50),
        p90_ci=interval(0.90),
        p95_ci=interval(0.95),
        p99_ci=interval(0.99),
    )


def mean(values: np.ndarray, found: Ordered) -> float:
    """Of values [n > 0], which `found` has in order: of whole numbers it is exact."""
    n = len(values)
    if isinstance(found, np.ndarray) and (values.dtype.kind == "f" or max(abs(found[0]), abs(found[n - 1])) > MOST / n):
        return float(found.mean(dtype=np.float64))
    return added(values) / n


def durations(values: np.ndarray, ended: np.ndarray, scale: float = 1.0) -> Summary:
    """The same of `values` [n] in order of time, with intervals; where `ended` (bool [n]) is false they lasted longer.

    Mean, maximum and count are of those that ended. Quantiles count the others too, once they are more than 1 %.
    """
    found = summary(values[ended], scale, bounds=True)
    unfinished = int((~ended).sum())
    if unfinished <= CENSORED_SHARE * len(values):
        return replace(found, unfinished=unfinished)
    seen = censoring.survival(values, ended)

    def quantile(q: float) -> float | None:
        value = censoring.quantile(seen, q) if found.count >= values_needed(q) else None
        return None if value is None else value * scale

    def interval(q: float) -> Bounds | None:
        return _scaled(censoring.quantile_bounds(seen, q), scale) if found.count >= values_needed(q) else None

    return replace(
        found,
        unfinished=unfinished,
        p50=quantile(0.50),
        p90=quantile(0.90),
        p95=quantile(0.95),
        p99=quantile(0.99),
        p50_ci=interval(0.50),
        p90_ci=interval(0.90),
        p95_ci=interval(0.95),
        p99_ci=interval(0.99),
    )


def _scaled(bounds: Bounds, scale: float) -> Bounds | None:
    low, high = (None if bound is None else bound * scale for bound in bounds)
    return None if low is None and high is None else (low, high)
