"""How many values a quantile needs: with fewer, it lies beyond all of them but the largest, and says nothing else."""

from __future__ import annotations

import math
from typing import Protocol

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}  # by the name of the field


class Counted(Protocol):
    """A distribution, and of how many values."""

    @property
    def count(self) -> int: ...


def values_needed(quantile: float) -> int:
    """How many values a quantile is computed from at least: 1 / (1 - quantile), so that one of them is expected to lie
    beyond it: 10 for p90, 20 for p95, 100 for p99. One for the median and below."""
    return 1 if quantile <= 0.5 else math.ceil(round(1 / (1 - quantile), 6))


def quantile_of(of: Counted, name: str) -> float | None:
    """A field of a distribution by its name, None where it is a quantile of too few values: older results have those,
    too."""
    too_few = name in QUANTILES and of.count < values_needed(QUANTILES[name])
    found: float | None = None if too_few else getattr(of, name)
    return found


def of_fewer(name: str) -> str:
    """The null rule of a quantile's field."""
    return f"there are fewer than {values_needed(QUANTILES[name])} values"
