"""Figures of several processes that ran the same thing, each in one window or more: the process is what is repeated.

Kalibera and Jones, "Rigorous benchmarking in reasonable time" (2013): windows narrow the mean of their process and say
nothing of how processes differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from innerloop.harness.analysis.distributions import incomplete_beta, t_quantile
from innerloop.harness.analysis.statistics import CONFIDENCE, LEAST_BLOCKS, Interval, mean_of_positive
from innerloop.harness.analysis.verdicts import alpha_spent

MOST_NEEDED = 100_000
DIFFER_P = 0.05


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over processes. scatter: standard deviation of the processes' means / mean, None below two processes.
    window_scatter: the same of windows of one process, None with one window each. differ: processes scatter more than
    their windows explain, None where that is not known."""

    mean: Interval
    low: float
    high: float
    scatter: float | None
    window_scatter: float | None
    differ: bool | None


def spread(values: np.ndarray, looks: int | None = None) -> Spread:
    """`values`: float64 [processes >= 1, windows >= 1], above 0. looks: how often at most was looked whether these are
    enough, once a process; None: their number was fixed before."""
    means = values.mean(axis=1)
    n, windows = values.shape
    mean = float(means.mean())
    within = None
    if windows > 1:
        within = math.sqrt(float(values.var(axis=1, ddof=1).mean())) / mean
    return Spread(
        mean=mean_of_processes(means, looks),
        low=float(means.min()),
        high=float(means.max()),
        scatter=float(means.std(ddof=1)) / mean if n > 1 else None,
        window_scatter=within,
        differ=_differ(values) if n >= LEAST_BLOCKS and windows > 1 else None,
    )


def mean_of_processes(values: np.ndarray, looks: int | None = None, confidence: float = CONFIDENCE) -> Interval:
    """`mean_of_positive` (values float64 [processes], at least 0). With `looks`, an interval for which `confidence`
    holds for all looks from the third to that number together (`alpha_spent`)."""
    alpha = 1 - confidence if looks is None else alpha_spent(len(values), looks, 1 - confidence)
    if alpha <= 0:
        return replace(mean_of_positive(values), low=None, high=None)
    return mean_of_positive(values, 1 - alpha)


def half_width(found: Interval) -> float | None:
    """How far an interval of `mean_of_processes` reaches above its estimate / the estimate; None without bounds."""
    if found.high is None or not found.estimate:
        return None
    return (found.high - found.estimate) / found.estimate


def processes_for(values: np.ndarray, within: float) -> int | None:
    """How many processes a half width of `within` of the mean takes at the scatter of these (float64 [processes]), if
    their number is fixed before; None below three."""
    if len(values) < LEAST_BLOCKS:
        return None
    scatter = float(values.std(ddof=1) / values.mean())
    n = LEAST_BLOCKS
    while t_quantile((1 + CONFIDENCE) / 2, n - 1) * scatter / math.sqrt(n) > within and n < MOST_NEEDED:
        n = max(n + 1, int(n * 1.02))
    return n


def _differ(values: np.ndarray) -> bool:
    """One-way analysis of variance: the processes' means scatter more than their windows would have them, at 5 %."""
    n, windows = values.shape
    within = float(values.var(axis=1, ddof=1).mean())
    between = windows * float(values.mean(axis=1).var(ddof=1))
    if within == 0:
        return between > 0
    return f_tail(between / within, n - 1, n * (windows - 1)) < DIFFER_P


def f_tail(f: float, above: float, below: float) -> float:
    """How likely the F distribution with `above` and `below` degrees of freedom is at least `f`."""
    return incomplete_beta(below / 2, above / 2, below / (below + above * f))
