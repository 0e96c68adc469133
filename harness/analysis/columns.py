"""How a column of a trace says that a value is missing."""

from __future__ import annotations

import numpy as np

NS = 1e-9  # seconds in a nanosecond


def known(column: np.ndarray) -> np.ndarray:
    """Which values are there: bool, the shape of `column`. Missing integers are -1, missing fractions NaN."""
    return ~np.isnan(column) if column.dtype.kind == "f" else column >= 0


def total(column: np.ndarray) -> int | None:
    """The sum of an integer column, or None as soon as one value is missing (a part would pass for the whole)."""
    if len(column) == 0 or not known(column).all():
        return None
    return int(column.sum(dtype=np.int64))
