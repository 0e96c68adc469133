"""What observing an engine costs, from bare and recorded steps that took turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    interval by order statistics (Hollander and Wolfe, Nonparametric Statistical Methods, 3.6: the ranks
    n/2 -+ 0.98 sqrt(n)). None with fewer than LEAST_PAIRS."""
    times = np.array([pair for pair in pairs if pair[1] > 0], dtype=np.float64).reshape(-1, 2)
    n = len(times)
    if n < LEAST_PAIRS:
        return StepRatio(pairs=n or None)
    ratios = np.sort(times[:, 0] / times[:, 1])
    off = 0.98 * n**0.5
    low, high = max(int(n / 2 - off), 0), min(int(n / 2 + off), n - 1)
    return StepRatio(float(np.median(ratios)), float(ratios[low]), float(ratios[high]), n)
