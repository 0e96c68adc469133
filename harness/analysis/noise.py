"""How far runs of one and the same thing differ, and how many blocks a difference of some size takes because of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.distributions import t_quantile
from innerloop.harness.analysis.statistics import CONFIDENCE, LEAST_BLOCKS, smallest_visible

MOST_BLOCKS = 10_000


@dataclass(frozen=True, slots=True)
class Scatter:
    """Standard deviations of logarithms. neighbours: of the ratio of two processes of one block. processes: of one
    process's value, those of all blocks together, so that a drift of the machine is part of it."""

    neighbours: float
    processes: float


def scatter_of(a: np.ndarray, b: np.ndarray) -> Scatter | None:
    """Of blocks of two runs of the same thing, float64 [blocks] each and above 0; None below three blocks.

    The mean log ratio of the same thing is 0, so it is not estimated: the deviation is about 0.
    """
    if len(a) < LEAST_BLOCKS:
        return None
    ratios = np.log(b / a)
    values = np.log(np.concatenate((a, b)))
    return Scatter(math.sqrt(float(np.mean(ratios**2))), float(values.std(ddof=1)))


def visible_with(blocks: int, scatter: float, margin: float) -> float:
    """The relative difference that so many blocks show with 80 % power, at a `scatter` of neighbours."""
    return math.expm1(smallest_visible(scatter / math.sqrt(blocks), blocks - 1, math.log1p(margin)))


def half_width_with(blocks: int, scatter: float) -> float:
    """The relative half width of the 95 % interval of so many blocks."""
    return math.expm1(t_quantile((1 + CONFIDENCE) / 2, blocks - 1) * scatter / math.sqrt(blocks))


def blocks_to_see(effect: float, scatter: float, margin: float) -> int | None:
    """The fewest blocks that show a relative difference of `effect` with 80 % power; None: no number of them does,
    because it lies within the margin, or more than MOST_BLOCKS."""
    if effect <= margin:
        return None
    return _fewest(lambda n: visible_with(n, scatter, margin) <= effect)


def blocks_within(width: float, scatter: float) -> int | None:
    """The fewest blocks whose interval has a relative half width of at most `width`; None: more than MOST_BLOCKS."""
    return _fewest(lambda n: half_width_with(n, scatter) <= width)


def _fewest(fits: Callable[[int], bool]) -> int | None:
    """The least number of blocks that fits; both widths above fall with it."""
    if not fits(MOST_BLOCKS):
        return None
    low, high = LEAST_BLOCKS - 1, MOST_BLOCKS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
