"""Intervals of means, ratios, shares and quantiles, from arrays.

All intervals hold 95 % unless `confidence` says otherwise. A bound that the data do not give is None.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.chunks import at_most
from innerloop.harness.analysis.distributions import normal_quantile, rank_bounds, t_cdf, t_quantile
from innerloop.harness.analysis.selection import Ordered

CONFIDENCE = 0.95
BATCHES = 10  # of a series; more are correlated with each other, fewer make the interval wide (Schmeiser 1982)
LEAST_PER_BATCH = 5
LEAST_BLOCKS = 3
LEAST_PERMUTED, MOST_PERMUTED = 6, 16  # blocks: below, no permutation is rare enough; above, t is as good
CERTAIN = 0.99  # what MLPerf asks for before it accepts a quantile


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the bounds of what the true value may be. count: how many values or batches it rests on."""

    estimate: float | None
    low: float | None
    high: float | None
    count: int


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The mean of independent values (float [n]), by Student's t; no bounds below two values."""
    n = len(values)
    if n == 0:
        return Interval(None, None, None, 0)
    mean = float(values.mean())
    if n < 2:
        return Interval(mean, None, None, n)
    reach = t_quantile((1 + confidence) / 2, n - 1) * standard_error(values)
    return Interval(mean, mean - reach, mean + reach, n)


def mean_of_positive(values: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The same of values of at least 0: a lower bound below 0 is 0, for no mean lies there. No bounds below three."""
    found = mean_interval(values, confidence)
    if found.low is None or found.count < LEAST_BLOCKS:
        return Interval(found.estimate, None, None, found.count)
    return Interval(found.estimate, max(found.low, 0.0), found.high, found.count)


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values, float [n >= 2]."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def batch_error(means: np.ndarray) -> float:
    """Standard error of the mean of batches that follow each other, float [batches >= 2]: wider where a batch is like
    the one before, as an autoregressive series of first order would have it."""
    rest = means - means.mean()
    power = float(rest @ rest)
    alike = max(float(rest[1:] @ rest[:-1]) / power, 0.0) if power > 0 else 0.0
    return standard_error(means) * math.sqrt((1 + alike) / (1 - alike))


def ratio_interval(above: np.ndarray, below: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """sum(above) / sum(below), of batches in order of time (float [batches] each, at least 0), by the delta method.

    Batches whose `below` is 0 must have an `above` of 0, and do not count. A lower bound below 0 is 0.
    """
    used = below > 0
    above, below = above[used], below[used]
    n = len(above)
    if n == 0:
        return Interval(None, None, None, 0)
    ratio = float(above.sum() / below.sum())
    if n < LEAST_BLOCKS:
        return Interval(ratio, None, None, n)
    rest = (above - ratio * below) / below.mean()
    reach = t_quantile((1 + confidence) / 2, n - 1) * batch_error(rest)
    return Interval(ratio, max(ratio - reach, 0.0), ratio + reach, n)


def batched(values: np.ndarray, batches: int = BATCHES) -> np.ndarray | None:
    """The means of `batches` runs of neighbours, as equal as can be, float64 [batches]; None if they would be short."""
    if len(values) < batches * LEAST_PER_BATCH:
        return None
    edges = np.linspace(0, len(values), batches + 1).astype(np.int64)
    return np.add.reduceat(values.astype(np.float64), edges[:-1]) / np.diff(edges)


def batch_means_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The mean of a stationary series whose neighbours are alike (float [n], in order of time), by batch means."""
    means = batched(values)
    if means is None:
        return Interval(float(values.mean()) if len(values) else None, None, None, len(values))
    reach = t_quantile((1 + confidence) / 2, len(means) - 1) * batch_error(means)
    mean = float(values.mean())
    return Interval(mean, mean - reach, mean + reach, len(means))


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """A share by Wilson's score interval (1927), of independent trials."""
    if n == 0:
        return Interval(None, None, None, 0)
    z2, share = normal_quantile((1 + confidence) / 2) ** 2, successes / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(share, max(middle - reach, 0.0), min(middle + reach, 1.0), n)


def shares_below(values: np.ndarray, limit: float, batches: int = BATCHES) -> np.ndarray:
    """Which share of each of `batches` runs of neighbours is at most `limit`, float64 [batches]."""
    edges = np.linspace(0, len(values), batches + 1).astype(np.int64).tolist()
    parts = (values[a:b] for a, b in itertools.pairwise(edges))
    return np.array([at_most(part, limit) / len(part) for part in parts])


def quantile_bounds(
    values: np.ndarray, ordered: Ordered, q: float, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Order statistics that bound the q-quantile. `values` [n] in order of time, `ordered` the same ones sorted.

    The ranks are the binomial's, for independent values; where values that follow each other are alike, the scatter of
    the share below the quantile from batch to batch is larger, and its ranks are taken (Chen and Kelton 1999).
    """
    n = len(ordered)
    if n == 0:
        return None, None
    low, high = rank_bounds(n, q, confidence)
    if n >= BATCHES * LEAST_PER_BATCH:
        below = shares_below(values, ordered[min(math.ceil(q * n), n) - 1])
        reach = t_quantile((1 + confidence) / 2, len(below) - 1) * batch_error(below) * n
        low = max(min(low, math.floor(q * n - reach)), 0)
        high = min(max(high, math.ceil(q * n + reach) + 1), n + 1)
    return (float(ordered[low - 1]) if low > 0 else None, float(ordered[high - 1]) if high <= n else None)


def certified_from(q: float, confidence: float = CERTAIN) -> int:
    """The least number of values with which MLPerf's early stopping accepts a q-quantile: so many that two or more of
    them lie above it with `confidence`. 64 for p90, 130 for p95, 662 for p99.
    """
    n = 2
    while q**n + n * (1 - q) * q ** (n - 1) > 1 - confidence:
        n += 1
    return n


def paired_ratio(a: np.ndarray, b: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """How many times `b` is of `a`, float [blocks] each and positive, of blocks measured side by side: the geometric
    mean of b / a, by t on its logarithms. No bounds below three blocks.
    """
    found = mean_interval(np.log(b / a), confidence)
    return _exponential(found if found.count >= LEAST_BLOCKS else Interval(found.estimate, None, None, found.count))


def paired_ratio_by_signs(a: np.ndarray, b: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The same by exact permutation of signs, which asks only that the scatter is symmetric; 6 to 16 blocks.

    The 2^n - 1 means of subsets divide the line into 2^n parts that hold the centre with the same probability (Hartigan
    1969), so the bounds are two of them.
    """
    logs = np.log(b / a)
    n = len(logs)
    mean = float(logs.mean()) if n else None
    if not LEAST_PERMUTED <= n <= MOST_PERMUTED:
        return _exponential(Interval(mean, None, None, n))
    sums, counts = np.zeros(1), np.zeros(1)
    for one in logs:
        sums, counts = np.concatenate((sums, sums + one)), np.concatenate((counts, counts + 1))
    means = np.sort(sums[1:] / counts[1:])
    cut = math.floor((1 - confidence) / 2 * 2**n)
    return _exponential(Interval(mean, float(means[cut - 1]), float(means[-cut]), n))


def _exponential(found: Interval) -> Interval:
    estimate, low, high = (None if one is None else math.exp(one) for one in (found.estimate, found.low, found.high))
    return Interval(estimate, low, high, found.count)


def paired_p(a: np.ndarray, b: np.ndarray) -> float | None:
    """How likely log ratios as far from 0 are where there is no difference, by t; None below three blocks."""
    logs = np.log(b / a)
    if len(logs) < LEAST_BLOCKS:
        return None
    error = standard_error(logs)
    if error == 0:
        return 1.0 if logs.mean() == 0 else 0.0
    return 2 * t_cdf(-abs(float(logs.mean())) / error, len(logs) - 1)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) adjusted p-values, in the order given, float64 [tests]: those below a level are significant at it
    together."""
    n = len(p)
    order = np.argsort(p, kind="stable")
    out = np.empty(n)
    out[order] = np.minimum(np.maximum.accumulate((n - np.arange(n)) * p[order]), 1.0)
    return out


def smallest_visible(error: float, freedom: float, margin: float = 0.0, confidence: float = CONFIDENCE) -> float:
    """The smallest difference that would have been told from `margin` with 80 % power: d + (t.975 + t.8) SE."""
    return margin + (t_quantile((1 + confidence) / 2, freedom) + t_quantile(0.8, freedom)) * error
