"""Who is better in throughput and in interactivity, by intervals; and throughput at a fixed interactivity."""

from __future__ import annotations

import pytest

from innerloop.harness.analysis.pareto import Box, Level, at, dominated, dominates, frontier, levels
from innerloop.harness.analysis.statistics import Interval


def box(x: float, y: float, half: float | None = 1.0) -> Box:
    def around(value: float) -> Interval:
        return Interval(value, None, None, 1) if half is None else Interval(value, value - half, value + half, 3)

    return Box(around(x), around(y))


def test_a_point_dominates_where_both_intervals_lie_above() -> None:
    assert dominates(box(10, 10), box(7, 7))
    assert not dominates(box(10, 10), box(8.5, 7))  # x overlaps: 9 to 11 and 7.5 to 9.5
    assert not dominates(box(10, 10), box(7, 13))
    assert not dominates(box(10, 10), box(1, 1, None))


def test_dominators_are_counted_and_the_first_are_named() -> None:
    boxes = {"a": box(10, 10), "b": box(20, 20), "c": box(5, 30), "d": box(4, 4), "e": box(1, 1, None)}
    nobody = ((), 0)
    assert dominated(boxes) == {"a": (("b",), 1), "b": nobody, "c": nobody, "d": (("a", "b"), 2), "e": nobody}
    assert all(
        (other in beaten) == dominates(boxes[other], boxes[name])
        for name, (beaten, _) in dominated(boxes).items()
        for other in boxes
    )
    many = {f"{k}": box(3.0 * k, 3.0 * k) for k in range(40)}
    assert dominated(many)["5"] == (tuple(f"{k}" for k in range(6, 16)), 34)


def test_the_frontier_is_of_the_means() -> None:
    assert frontier({"a": box(10, 10), "b": box(20, 20), "c": box(5, 30), "d": box(20, 5)}) == {"b", "c"}
    assert frontier({}) == set()


def test_between_measured_points_lie_straight_lines_with_their_bounds() -> None:
    found = at([box(20, 100, 2), box(10, 200, 4)], 15)
    assert found.state == "between"
    assert found.y == Interval(150, 147, 153, 3)
    assert at([box(20, 100), box(10, 200)], 20).y == Interval(100, 99, 101, 3)
    assert at([box(20, 100), box(10, 200)], 10).y == Interval(200, 199, 201, 3)


def test_nothing_is_said_beyond_what_was_measured() -> None:
    curve = [box(20, 100), box(10, 200)]
    assert at(curve, 21) == Level(21, "unreachable", None)
    assert at(curve, 9) == Level(9, "not measured", None)
    assert at([], 9).state == "unreachable"
    assert at([box(20, 100, None), box(10, 200)], 15).y == Interval(150, None, None, 1)


def test_levels_are_round_and_lie_within_the_measured_range() -> None:
    assert levels([[box(12, 1), box(90, 1)], [box(30, 1)]]) == [20, 50]
    assert levels([[box(12, 1), box(18, 1)]]) == pytest.approx([14, 16])
    assert levels([]) == []
