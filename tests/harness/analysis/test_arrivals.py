"""Gaps between a request's arrivals, and the tokens of its first one."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.arrivals import arrival_gaps, first_counts


def gaps_of(time: list[int], request: list[int], count: list[int]):
    return arrival_gaps(np.array(time), np.array(request, dtype=np.int32), np.array(count, dtype=np.int32))


def test_gaps_come_in_order_of_time_whoever_they_belong_to():
    found = gaps_of([0, 1, 10, 12, 30], [7, 3, 3, 7, 3], [1, 1, 1, 1, 1])
    assert found.arrived_ns.tolist() == [10, 12, 30]
    assert found.gap_ns.tolist() == [9, 12, 20]
    assert found.itl_ns.tolist() == [9, 12, 20]


def test_an_arrival_of_three_tokens_is_one_gap_and_three_itls():
    found = gaps_of([0, 90, 100], [0, 0, 0], [2, 3, 1])
    assert found.gap_ns.tolist() == [90, 10]
    assert found.itl_ns.tolist() == [30, 30, 30, 10]


def test_an_arrival_of_nothing_is_none():
    assert gaps_of([0, 50, 90], [0, 0, 0], [1, 0, 1]).gap_ns.tolist() == [90]


def test_no_gap_without_a_second_arrival():
    assert len(gaps_of([], [], []).gap_ns) == 0
    assert len(gaps_of([5], [0], [4]).itl_ns) == 0


def test_a_window_holds_what_arrives_in_it():
    found = gaps_of([0, 10, 20, 30], [0, 0, 0, 0], [1, 1, 1, 1]).within(10, 30)
    assert found.arrived_ns.tolist() == [20, 30]


def test_tokens_of_the_first_arrival():
    request, count = np.array([1, 0, 1, 0, 1, 9]), np.array([0, 5, 2, 1, 1, 1])
    assert first_counts(request, count, 3).tolist() == [5, 2, 0]
