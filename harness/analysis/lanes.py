"""Intervals that overlap, put side by side."""

from __future__ import annotations

import heapq

import numpy as np


def lanes(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A lane for every interval, int64 [intervals], so that those of a lane never overlap; the lowest free one.

    `begin` <= `end`; intervals that only touch share a lane.
    """
    out = np.zeros(len(begin), dtype=np.int64)
    busy: list[tuple[int, int]] = []  # (end, lane)
    free: list[int] = []
    for place in np.lexsort((end, begin)).tolist():
        while busy and busy[0][0] <= begin[place]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (int(end[place]), lane))
        out[place] = lane
    return out
