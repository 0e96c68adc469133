"""Order statistics of a long column of whole numbers, found by counting: it is not sorted, nor copied."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from innerloop.harness.analysis import chunks
from innerloop.harness.analysis.chunks import least_and_most

BINS = 1 << 16
DIGITS = 12  # binary ones
DOUBLE = 52  # of a float64, behind the first
SORTED_AT_ONCE = 1 << 21  # values of a bin that are few enough to be sorted


class Ordered(Protocol):
    """Values in order of size, as a sorted array has them."""

    def __len__(self) -> int: ...

    def __getitem__(self, rank: int, /) -> int | float: ...


def ordered(values: np.ndarray) -> np.ndarray | Selected:
    """The values [n] in order: sorted, or, where they are many whole numbers, to be counted off."""
    if len(values) <= chunks.CHUNK or values.dtype.kind not in "iu":
        return np.sort(values)
    return Selected(values)


def at_ranks(values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The values [n] of these ranks (int64 [ranks], in order): each is greater than or equal to `rank` others.

    Many whole numbers of 0 and more are gone through twice, and their values found to 25 binary digits: by the first
    13 of these, then, of the values that have the same 13 as a rank's, by the other 12.
    """
    if len(values) <= chunks.CHUNK or values.dtype.kind not in "iu":
        return np.partition(values, ranks)[ranks]
    bounds = least_and_most(values)
    assert bounds is not None
    least, most = (_digits(np.array([bound])) >> DIGITS for bound in bounds)
    coarse = np.zeros(int(most[0] - least[0]) + 1, dtype=np.int64)
    for part in chunks.chunks(values):
        coarse += np.bincount((_digits(part) >> DIGITS) - least, minlength=len(coarse))
    ends = np.cumsum(coarse)
    places = np.searchsorted(ends, ranks, side="right")
    opened = np.unique(places)
    number = np.full(len(coarse), -1)
    number[opened] = np.arange(len(opened))
    fine = np.zeros(len(opened) << DIGITS, dtype=np.int64)
    for part in chunks.chunks(values):
        digits = _digits(part)
        which = number[(digits >> DIGITS) - least]
        rest = digits & ((1 << DIGITS) - 1)
        fine += np.bincount(((which << DIGITS) + rest)[which >= 0], minlength=len(fine))
    left_out = ends[places] - np.cumsum(coarse[opened])[number[places]]  # in places that were not opened, before each
    found = np.searchsorted(np.cumsum(fine), ranks - left_out, side="right")
    digits = ((opened[found >> DIGITS] + least) << DIGITS) + (found & ((1 << DIGITS) - 1))
    return (digits << (DOUBLE - 2 * DIGITS)).view(np.float64)


def _digits(values: np.ndarray) -> np.ndarray:
    """Exponent and the first binary digits of whole numbers of 0 and more, int64, in the order of the values."""
    return np.maximum(values, 0).astype(np.float64).view(np.int64) >> (DOUBLE - 2 * DIGITS)


class Selected:
    """`selected[k]` is the value that is greater than or equal to k others, k >= 0, as of a sorted array.

    The range is cut into bins, and the bin in which a rank lies again, until its values are few enough to be sorted or
    all the same. Every bin that was opened is kept, since the ranks that are asked for lie near each other.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        bounds = least_and_most(values)
        assert bounds is not None
        self._top = _Bin(values, *bounds, whole=True)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, rank: int) -> int:
        if not 0 <= rank < len(self):
            raise IndexError(rank)
        return self._top.find(rank)


class _Bin:
    """The values from `low` to `high`; `whole`: that is all of them."""

    def __init__(self, values: np.ndarray, low: int, high: int, whole: bool = False) -> None:
        self._values, self._low, self._high, self._whole = values, low, high, whole
        self._width = -(-(high - low + 1) // BINS)
        self._ends: np.ndarray | None = None
        self._sorted: np.ndarray | None = None
        self._inner: dict[int, _Bin] = {}

    def find(self, rank: int) -> int:
        if self._low == self._high:
            return self._low
        if self._sorted is not None:
            return int(self._sorted[rank])
        if self._ends is None:
            self._ends = np.cumsum(self._counted())
        place = int(np.searchsorted(self._ends, rank, side="right"))
        below = int(self._ends[place - 1]) if place else 0
        if place not in self._inner:
            first = self._low + place * self._width
            inner = _Bin(self._values, first, min(first + self._width - 1, self._high))
            if int(self._ends[place]) - below <= SORTED_AT_ONCE:
                inner.sort()
            self._inner[place] = inner
        return self._inner[place].find(rank - below)

    def sort(self) -> None:
        if self._low < self._high:
            found = [part[(part >= self._low) & (part <= self._high)] for part in chunks.chunks(self._values)]
            self._sorted = np.sort(np.concatenate(found))

    def _counted(self) -> np.ndarray:
        counts = np.zeros(BINS, dtype=np.int64)
        for part in chunks.chunks(self._values):
            inside = part if self._whole else part[(part >= self._low) & (part <= self._high)]
            counts += np.bincount((inside - self._low) // self._width, minlength=BINS)
        return counts
