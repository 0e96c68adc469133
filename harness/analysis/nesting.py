"""Intervals inside intervals, and intervals side by side."""

from __future__ import annotations

import numpy as np


def nest(
    start_ns: np.ndarray, end_ns: np.ndarray, lane: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(parent, depth, self time, order) of intervals, by their nesting on each lane (a thread); all int64 [n].

    `parent` is -1 at depth 0. The self time is the duration without the children's; a child that by the rounding of
    its clock ends after its parent counts up to the parent's end only. In `order` parents come before their children.
    """
    n = len(start_ns)
    order = np.lexsort((-end_ns, start_ns, lane))
    parent, depth = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    own = (end_ns - start_ns).astype(np.int64)
    starts, ends, lanes = start_ns.tolist(), end_ns.tolist(), lane.tolist()
    spent = own.tolist()
    stack: list[int] = []
    for index in order.tolist():
        while stack and (lanes[stack[-1]] != lanes[index] or ends[stack[-1]] <= starts[index]):
            stack.pop()
        if stack:
            parent[index], depth[index] = stack[-1], len(stack)
            spent[stack[-1]] -= min(ends[index], ends[stack[-1]]) - starts[index]
            ends[index] = min(ends[index], ends[stack[-1]])
            spent[index] = min(spent[index], ends[index] - starts[index])
        stack.append(index)
    return parent, depth, np.array(spent, dtype=np.int64).reshape(n), order


def union(start_ns: np.ndarray, end_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The intervals merged where they touch or overlap: starts and ends in order, int64."""
    if len(start_ns) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.argsort(start_ns, kind="stable")
    starts, reach = start_ns[order], np.maximum.accumulate(end_ns[order])
    first = np.concatenate(([True], starts[1:] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return starts[first], reach[last]


def covered_ns(spans: tuple[np.ndarray, np.ndarray], start_ns: np.ndarray, end_ns: np.ndarray) -> np.ndarray:
    """How much of each interval the merged `spans` cover, int64, the shape of `start_ns`."""
    starts, ends = spans
    if len(starts) == 0:
        return np.zeros(len(start_ns), np.int64)
    before = np.concatenate(([0], np.cumsum(ends - starts)))

    def up_to(moment: np.ndarray) -> np.ndarray:
        place = np.searchsorted(starts, moment, side="right")
        inside = np.where(place > 0, np.minimum(moment, ends[place - 1]) - starts[place - 1], 0)
        return before[np.maximum(place - 1, 0)] + inside

    return up_to(np.asarray(end_ns)) - up_to(np.asarray(start_ns))


def gaps_ns(spans: tuple[np.ndarray, np.ndarray], start_ns: int, end_ns: int) -> np.ndarray:
    """The lengths of what the merged `spans` leave free between `start_ns` and `end_ns`, int64, in order."""
    starts, ends = spans
    inside = (ends > start_ns) & (starts < end_ns)
    edges = np.concatenate(([start_ns], np.minimum(ends[inside], end_ns)))
    nexts = np.concatenate((np.maximum(starts[inside], start_ns), [end_ns]))
    gaps = nexts - edges
    return gaps[gaps > 0]
