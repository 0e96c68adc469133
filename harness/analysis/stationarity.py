"""Whether a series stays where it is: its warm-up, its trend, and a change of level.

Series are float64 [n], equally far apart in time, without missing values. Trend and change cost n^2: n is meant to be
some hundreds, so series of steps are put into bins first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.distributions import normal_quantile, normal_tail

LEAST = 10  # values below which nothing is tested
SIGNIFICANT = 1.96  # of its standard errors, from which on a correlation differs from 0


def settled_from(values: np.ndarray, batch: int = 5) -> int | None:
    """The place from which on a series is settled, by MSER-5 (White, Cobb and Spratt 2000); None if it never is.

    Of the places in the first half it is the one behind which the mean is known best: least squares / n^2 of means of
    five. If that is the last of them, the series is too short.
    """
    count = len(values) // batch
    if count < 4:
        return None
    means = values[: count * batch].reshape(count, batch).mean(axis=1)
    means = means - means.mean()  # against rounding
    left = np.arange(count, 0, -1)
    total, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    score = np.maximum(squares - total**2 / left, 0.0) / left**2
    best = int(np.argmin(score[: count // 2 + 1]))
    return best * batch if best < count // 2 else None


@dataclass(frozen=True, slots=True)
class Trend:
    """slope: of the values, a place. low, high: its interval. p: how likely such a trend is where there is none."""

    slope: float
    low: float
    high: float
    p: float


def trend(values: np.ndarray, confidence: float = 0.95) -> Trend | None:
    """Theil's and Sen's slope, its interval and the test of Mann and Kendall; None below ten values.

    The variance is corrected for values that follow each other and are alike (see `inflation`).
    """
    n = len(values)
    if n < LEAST:
        return None
    i, j = np.triu_indices(n, 1)
    difference = values[j] - values[i]
    slopes = np.sort(difference / (j - i))
    slope = float(np.median(slopes))
    score = float(np.sign(difference).sum())
    variance = kendall_variance(values) * inflation(values - slope * np.arange(n))
    z = (score - math.copysign(1, score)) / math.sqrt(variance) if score and variance > 0 else 0.0
    reach = normal_quantile((1 + confidence) / 2) * math.sqrt(variance)
    low = max(round((len(slopes) - reach) / 2) - 1, 0)
    high = len(slopes) - 1 - low
    return Trend(slope, float(slopes[low]), float(slopes[high]), normal_tail(z))


def kendall_variance(values: np.ndarray) -> float:
    """Of Kendall's score of independent values, ties counted."""
    n = len(values)
    tied = np.unique(values, return_counts=True)[1]
    return float(n * (n - 1) * (2 * n + 5) - (tied * (tied - 1) * (2 * tied + 5)).sum()) / 18


def inflation(values: np.ndarray) -> float:
    """How many times larger the variance of Kendall's score is than of independent values (Hamed and Rao 1998), by the
    correlations of ranks; at least 1. `values` have no trend.

    Lags count up to the first whose correlation does not differ from 0: in short series those far away are below 0 by
    construction, and would hide the near ones.
    """
    n = len(values)
    rank = ranks(values) - (n + 1) / 2
    power = float(rank @ rank)
    if power == 0:
        return 1.0
    lag = np.arange(1, n - 3)
    correlation = np.array([float(rank[:-k] @ rank[k:]) for k in lag]) / power
    alike = np.logical_and.accumulate(correlation > SIGNIFICANT / math.sqrt(n))
    correlation = np.where(alike, correlation, 0.0)
    weight = (n - lag) * (n - lag - 1) * (n - lag - 2)
    return 1 + 2 * float(weight @ correlation) / (n * (n - 1) * (n - 2))


def ranks(values: np.ndarray) -> np.ndarray:
    """1 is the smallest; ties share the mean of theirs. float64 [n]."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place.reshape(-1)]


@dataclass(frozen=True, slots=True)
class Shift:
    """at: how many values lie before the change. before, after: the medians. p: likelihood where there is none."""

    at: int
    before: float
    after: float
    p: float


def shift(values: np.ndarray) -> Shift | None:
    """Where the level changed most, by Pettitt's test (1979), corrected for alike neighbours as the trend is; None
    below ten values."""
    n = len(values)
    if n < LEAST:
        return None
    score = 2 * np.cumsum(ranks(values))[:-1] - np.arange(1, n) * (n + 1)
    at = int(np.argmax(np.abs(score))) + 1
    before, after = float(np.median(values[:at])), float(np.median(values[at:]))
    larger = inflation(np.concatenate((values[:at] - before, values[at:] - after)))
    p = min(2 * math.exp(-6 * float(score[at - 1]) ** 2 / (n**3 + n**2) / larger), 1.0)
    return Shift(at, before, after, p)
