"""Drift, level shifts and overload in runs that are known."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis import drift as analysis
from innerloop.harness.analysis.drift import in_system
from innerloop.harness.schema.stability import Backlog, Drift

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def drift(end_ns: np.ndarray, wall_s: np.ndarray, expected_s: np.ndarray) -> Drift:
    found = analysis.drift(end_ns, wall_s, expected_s)
    assert found is not None
    return found


def backlog(due_ns: np.ndarray, left_ns: np.ndarray, start_ns: int) -> Backlog:
    found = analysis.backlog(due_ns, left_ns, start_ns)
    assert found is not None
    return found


def steps_of(minutes: float, factor, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ends, wall time, expected wall time): steps of 20 ms with 5 % scatter, times `factor(share of the window)`."""
    n = int(minutes * 60 / 0.02)
    expected = np.full(n, 0.02)
    wall = expected * factor(np.arange(n) / n) * np.random.default_rng(seed).normal(1, 0.05, n)
    return np.cumsum(wall * SECOND).astype(np.int64), wall, expected


def test_a_run_that_stays_where_it_is():
    found = drift(*steps_of(5, lambda at: np.ones_like(at)))
    assert found.kind is None
    assert found.low <= 0 <= found.high


def test_steps_that_become_slower_all_the_time():
    # 12 % slower at the end, over 5.3 minutes: 2.1 % of the mean a minute
    found = drift(*steps_of(5, lambda at: 1 + 0.12 * at))
    assert found.kind == "drift"
    assert found.per_minute == pytest.approx(0.0214, rel=0.1)
    assert found.low < 0.0214 < found.high
    assert found.change == pytest.approx(0.12 / 1.06, rel=0.1)
    assert found.shift_ns is None


def test_less_than_five_percent_is_not_worth_a_word():
    found = drift(*steps_of(5, lambda at: 1 + 0.03 * at))
    assert found.p < 0.01
    assert found.kind is None


def test_a_sudden_change_is_a_level_shift_and_says_when():
    ends, wall, expected = steps_of(5, lambda at: np.where(at < 0.4, 1.0, 1.15))
    found = drift(ends, wall, expected)
    assert found.kind == "level_shift"
    assert found.change == pytest.approx(0.15, abs=0.01)
    assert found.shift_ns == pytest.approx(ends[int(0.4 * len(ends))], abs=10 * SECOND)


def test_slower_steps_that_hold_more_are_no_drift():
    ends, wall, _ = steps_of(5, lambda at: 1 + 0.5 * at)
    assert drift(ends, wall, 0.02 * (1 + 0.5 * np.arange(len(ends)) / len(ends))).kind is None


def test_too_few_steps_tell_nothing():
    ends, wall, expected = steps_of(5, lambda at: 1 + at)
    assert analysis.drift(ends[:99], wall[:99], expected[:99]) is None
    assert analysis.drift(ends, wall, np.full(len(ends), np.nan)) is None


def test_requests_in_the_system_by_hand():
    # one from 0 to 4, one from 1 on, one never due: 1, 2, 2, 2 and, from 4 on, 1
    due, left = np.array([0, 1, -1]), np.array([4, -1, -1])
    assert in_system(due, left, np.array([0, 1, 2, 4, 5])).tolist() == [1, 2, 2, 1]
    assert in_system(due, left, np.array([0, 5])).tolist() == [8.0 / 5]


def queue(rate: float, capacity: float, seconds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(due, left) of one server with exponential times between arrivals and of service."""
    rng = np.random.default_rng(seed)
    count = int(rate * seconds)
    due, left = np.cumsum(rng.exponential(1 / rate, count)), np.empty(count)
    free = 0.0
    for i, (moment, service) in enumerate(zip(due, rng.exponential(1 / capacity, count), strict=True)):
        left[i] = free = max(free, moment) + service
    return (due * SECOND).astype(np.int64), (left * SECOND).astype(np.int64)


def test_a_rate_above_the_capacity_is_overload():
    found = backlog(*queue(20, 15, 120, 0), 0)
    assert found.overloaded
    assert found.per_minute == pytest.approx((20 - 15) * 60, rel=0.3)
    assert found.low <= found.per_minute <= found.high


def test_a_rate_below_it_seldom_looks_like_overload():
    assert sum(backlog(*queue(20, 30, 120, seed), 0).overloaded for seed in range(100)) <= 4


def test_few_arrivals_tell_nothing():
    due = np.arange(10) * SECOND
    assert analysis.backlog(due, due + 1, 0) is None
    assert analysis.backlog(np.full(3, -1), np.full(3, -1), 0) is None
