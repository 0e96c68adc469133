"""Quantiles of durations of which some had not ended when they were last seen: Kaplan's and Meier's estimate (1958)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.distributions import normal_quantile


@dataclass(frozen=True, slots=True)
class Survival:
    """The share that lasts longer than each of `times`, float64 [moments] each, and Greenwood's variance of the
    logarithm of its logarithm. longest: the longest that anything was seen to last."""

    times: np.ndarray
    share: np.ndarray
    log_variance: np.ndarray
    longest: float


def survival(durations: np.ndarray, ended: np.ndarray) -> Survival:
    """`durations` [n], of which those where `ended` (bool [n]) is false lasted at least so long; n > 0."""
    times = np.unique(durations[ended]).astype(np.float64)
    ordered, ends = np.sort(durations), np.sort(durations[ended])
    at_risk = len(durations) - np.searchsorted(ordered, times)
    events = np.searchsorted(ends, times, side="right") - np.searchsorted(ends, times)
    share = np.cumprod(1 - events / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(events / (at_risk * (at_risk - events)))
        variance = greenwood / np.log(share) ** 2
    return Survival(times, share, variance, float(ordered[-1]))


def quantile(found: Survival, q: float) -> float | None:
    """The shortest time that a share `q` does not outlast; None if it lies beyond `longest`."""
    return _first(found, found.share <= 1 - q + 1e-12)


def quantile_bounds(found: Survival, q: float, confidence: float = 0.95) -> tuple[float | None, float | None]:
    """The interval of the q-quantile: where the survivors' log-log interval holds 1 - q (Brookmeyer and Crowley 1982).

    Ends of durations are taken as independent of each other. None: no bound on that side. Of how many outlast the
    longest of those that ended where that was the longest of all, nothing is known: it is no upper bound.
    """
    z = normal_quantile((1 + confidence) / 2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        reach = np.exp(z * np.sqrt(found.log_variance))
        low, high = found.share**reach, found.share ** (1 / reach)
    ended = found.share <= 0  # nobody is left: the variance is not defined
    low, high = np.where(ended, 0.0, low), np.where(ended, 1.0, high)
    return _first(found, low <= 1 - q), _first(found, high <= 1 - q)


def _first(found: Survival, reached: np.ndarray) -> float | None:
    return float(found.times[np.argmax(reached)]) if reached.any() else None
