"""What observing an engine costs, from bare and recorded steps that took turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.distributions import rank_bounds
from innerloop.harness.analysis.statistics import CONFIDENCE

LEAST_PAIRS = 8  # fewer have no 95 % interval of their median worth the name


@dataclass(frozen=True, slots=True)
class StepRatio:
    """Bare / recorded with its 95 % interval, over so many pairs."""

    median: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int | None = None


def step_ratio(pairs: Sequence[Sequence[int]]) -> StepRatio:
    """The median of bare / recorded over pairs of (bare, recorded) ns, 1 where observing costs nothing, with its 95 %
    interval by order statistics, whose ranks are the binomial's. None with fewer than LEAST_PAIRS."""
    times = np.array([pair for pair in pairs if pair[1] > 0], dtype=np.float64).reshape(-1, 2)
    n = len(times)
    if n < LEAST_PAIRS:
        return StepRatio(pairs=n or None)
    ratios = np.sort(times[:, 0] / times[:, 1])
    low, high = rank_bounds(n, 0.5, CONFIDENCE)  # within 1 to n from 6 values on
    return StepRatio(float(np.median(ratios)), float(ratios[low - 1]), float(ratios[high - 1]), n)
