"""Fewer points that look the same: least and greatest of each stretch, even picks, and short numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

MOST = 1200  # points of a line
DIGITS = 6  # significant digits of what is drawn


def min_max(values: np.ndarray, most: int = MOST) -> np.ndarray:
    """Places of at most `most` values, int64, in order: the least and the greatest of each of `most` / 2 stretches, so
    that no peak and no dip is lost. All places where there are no more than that. NaN counts as neither."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 2 + 1).astype(np.int64)
    low = np.where(np.isnan(values), np.inf, values) if values.dtype.kind == "f" else values
    high = np.where(np.isnan(values), -np.inf, values) if values.dtype.kind == "f" else values
    places = []
    for begin, end in pairwise(edges):
        places += [begin + int(low[begin:end].argmin()), begin + int(high[begin:end].argmax())]
    return np.unique(places)


def evenly(count: int, most: int) -> np.ndarray:
    """Places of at most `most` of `count` values, int64, spread evenly, the first and the last among them."""
    return np.arange(count) if count <= most else np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def plain(values: Any) -> list[Any]:
    """Values as JSON has them, of DIGITS significant digits; None where one is missing (None, NaN)."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.array([np.nan if value is None else value for value in values])
    if array.dtype.kind in "iub":
        return list(array.tolist())
    if array.dtype.kind != "f":
        return list(array.tolist())
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in array.tolist()]


def thinned(shown: int, of: int, what: str) -> str:
    """What is to be said of a line that shows fewer points than there are; empty if it shows all."""
    if shown >= of:
        return ""
    return f"{shown:,} of {of:,} {what} drawn: the smallest and the largest of each stretch.".replace(",", "\u202f")
