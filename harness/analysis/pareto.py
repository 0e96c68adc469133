"""Throughput of a device against interactivity, the output rate of one user: who is better than whom, how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from innerloop.harness.analysis.statistics import Interval

NICE = (1.0, 2.0, 5.0)
MOST_LEVELS = 6
MOST_NAMED = 10  # of those that dominate a cell


@dataclass(frozen=True, slots=True)
class Box:
    """A point and its interval box: x is interactivity, y throughput a device. Bounds that are not known are None."""

    x: Interval
    y: Interval


@dataclass(frozen=True, slots=True)
class Level:
    """Throughput at a fixed interactivity. state: "between" measured points; "unreachable": above the highest
    interactivity that was measured; "not measured": below the lowest."""

    x: float
    state: Literal["between", "unreachable", "not measured"]
    y: Interval | None


def dominates(a: Box, b: Box) -> bool:
    """Whether `a` is better than `b` in both at 95 %: both of its lower bounds lie above the other's upper bounds.

    That two 95 % intervals do not overlap is rarer than 5 % where there is no difference; both figures have to differ,
    so the two tests need no correction (intersection-union test; Berger 1982).
    """
    bounds = (a.x.low, b.x.high, a.y.low, b.y.high)
    if any(one is None for one in bounds):
        return False
    x_low, x_high, y_low, y_high = (float(one) for one in bounds if one is not None)
    return x_low > x_high and y_low > y_high


def dominated(boxes: Mapping[str, Box]) -> dict[str, tuple[tuple[str, ...], int]]:
    """By whom each is dominated, by name: the first MOST_NAMED of these, and how many they are. Of n boxes all names
    would be some n^2 / 4."""
    names = list(boxes)
    lows = np.array([_number(boxes[name].x.low) for name in names])
    y_lows = np.array([_number(boxes[name].y.low) for name in names])
    found: dict[str, tuple[tuple[str, ...], int]] = {}
    for name in names:
        high, y_high = boxes[name].x.high, boxes[name].y.high
        if high is None or y_high is None:
            found[name] = ((), 0)
            continue
        better = np.flatnonzero((lows > high) & (y_lows > y_high))
        found[name] = (tuple(names[k] for k in better[:MOST_NAMED]), len(better))
    return found


def _number(value: float | None) -> float:
    return float("-inf") if value is None else value


def frontier(boxes: Mapping[str, Box]) -> set[str]:
    """Those than which no other has better means in both. Without intervals: who is on it need not be so surely."""
    found: set[str] = set()
    best = float("-inf")
    known = [(box.x.estimate, box.y.estimate, name) for name, box in boxes.items()]
    for _, y, name in sorted(
        (one for one in known if None not in one), key=lambda one: (-(one[0] or 0), -(one[1] or 0))
    ):
        if y is not None and y > best:
            found.add(name)
            best = y
    return found


def levels(curves: Sequence[Sequence[Box]]) -> list[float]:
    """Round interactivities between the lowest and the highest that was measured of any curve, few of them."""
    known = [box.x.estimate for curve in curves for box in curve if box.x.estimate]
    if not known:
        return []
    low, high = min(known), max(known)
    found = [nice * 10.0**power for power in range(-4, 7) for nice in NICE if low <= nice * 10.0**power <= high]
    if len(found) < 2:
        found = [float(f"{value:.2g}") for value in np.linspace(low, high, 4)[1:-1]]
    return sorted(set(found))[-MOST_LEVELS:]


def at(curve: Sequence[Box], x: float) -> Level:
    """Throughput at interactivity `x` by straight lines between neighbours, their bounds alike; never beyond the
    measured range."""
    known = sorted((box for box in curve if box.x.estimate is not None and box.y.estimate is not None), key=_place)
    if not known or x > _place(known[-1]):
        return Level(x, "unreachable", None)
    if x < _place(known[0]):
        return Level(x, "not measured", None)
    places = [_place(box) for box in known]
    after = min(int(np.searchsorted(places, x)), len(known) - 1)
    before = max(after - 1, 0)
    a, b = known[before], known[after]
    span = places[after] - places[before]
    share = (x - places[before]) / span if span > 0 else 0.0

    def between(first: float | None, second: float | None) -> float | None:
        return None if first is None or second is None else first + share * (second - first)

    y = Interval(
        between(a.y.estimate, b.y.estimate),
        between(a.y.low, b.y.low),
        between(a.y.high, b.y.high),
        min(a.y.count, b.y.count),
    )
    return Level(x, "between", y)


def _place(box: Box) -> float:
    return box.x.estimate or 0.0
