from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.nesting import covered_ns, gaps_ns, nest, union


def arrays(*intervals: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a for a, _ in intervals], np.int64), np.array([b for _, b in intervals], np.int64)


def test_self_time_is_the_duration_without_the_children():
    start, end = arrays((0, 100), (10, 40), (20, 30), (50, 60))
    parent, depth, own, _ = nest(start, end, np.zeros(4, np.int64))
    assert parent.tolist() == [-1, 0, 1, 0]
    assert depth.tolist() == [0, 1, 2, 1]
    assert own.tolist() == [60, 20, 10, 10]
    assert own.sum() == 100


def test_threads_do_not_nest_in_each_other():
    start, end = arrays((0, 100), (10, 20))
    parent, _, own, _ = nest(start, end, np.array([1, 2]))
    assert parent.tolist() == [-1, -1]
    assert own.tolist() == [100, 10]


def test_the_order_of_the_events_does_not_matter():
    start, end = arrays((20, 30), (0, 100), (10, 40))
    parent, _, own, order = nest(start, end, np.zeros(3, np.int64))
    assert parent.tolist() == [2, -1, 1]
    assert own.tolist() == [10, 70, 20]
    assert order.tolist() == [1, 2, 0]


def test_of_two_with_the_same_start_the_longer_is_outside():
    start, end = arrays((0, 10), (0, 100))
    assert nest(start, end, np.zeros(2, np.int64))[0].tolist() == [1, -1]


def test_a_child_that_ends_late_by_rounding_loses_nothing_twice():
    start, end = arrays((0, 100), (90, 101), (95, 102))
    _, _, own, _ = nest(start, end, np.zeros(3, np.int64))
    assert own.tolist() == [90, 5, 5]
    assert own.sum() == 100


def test_neighbours_are_not_nested():
    start, end = arrays((0, 10), (10, 20))
    assert nest(start, end, np.zeros(2, np.int64))[0].tolist() == [-1, -1]


def test_overlapping_intervals_are_counted_once():
    starts, ends = union(*arrays((30, 40), (0, 10), (5, 20), (20, 25)))
    assert (starts.tolist(), ends.tolist()) == ([0, 30], [25, 40])


def test_an_interval_inside_a_longer_one_does_not_end_it():
    starts, ends = union(*arrays((0, 100), (10, 20), (50, 60)))
    assert (starts.tolist(), ends.tolist()) == ([0], [100])


def test_what_is_covered_is_cut_at_the_edges():
    spans = union(*arrays((0, 10), (20, 30), (40, 50)))
    covered = covered_ns(spans, np.array([5, 12, 0, 45]), np.array([25, 18, 60, 99]))
    assert covered.tolist() == [10, 0, 30, 5]
    assert covered_ns(union(*arrays()), np.array([0]), np.array([9])).tolist() == [0]


def test_gaps_lie_before_between_and_behind():
    spans = union(*arrays((10, 20), (30, 40), (90, 120)))
    assert gaps_ns(spans, 0, 100).tolist() == [10, 10, 50]
    assert gaps_ns(spans, 12, 38).tolist() == [10]
    assert gaps_ns(union(*arrays()), 0, 7).tolist() == [7]
