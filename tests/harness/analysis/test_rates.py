"""Speeds of a steady window, by hand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from innerloop.harness.analysis.rates import output_rate, rate_per_user
from tests.harness.conftest import MS, SECOND, Make


def test_tokens_count_when_their_step_ends_after_the_window_opened(make_steps: Make) -> None:
    # steps of 100 ms with 8 tokens: that which ends at 1 s belongs to what was before, that which ends at 6 s does
    start = np.arange(100) * 100
    found = output_rate(make_steps(start, start + 100, output_tokens=[8] * 100), SECOND, 6 * SECOND)
    assert [found.estimate, found.low, found.high] == pytest.approx([80.0] * 3)
    assert found.count == 10


def test_two_steps_give_a_rate_without_an_interval(make_steps: Make) -> None:
    steps = make_steps([0, 100], [100, 200], output_tokens=[3, 5])
    found = output_rate(steps, 0, 200 * MS)
    assert found.estimate == pytest.approx(40.0)
    assert found.low is None
    assert output_rate(steps, SECOND, 2 * SECOND).estimate is None


def test_a_users_rate_is_that_of_tokens_not_of_requests():
    # 99 gaps of 10 ms and one of 1010 ms are 100 tokens in 2 s
    gaps = np.full(100, 10 * MS)
    gaps[40] = 1010 * MS
    found = rate_per_user(np.cumsum(gaps), gaps, np.ones(100, dtype=np.int32))
    assert found.estimate == pytest.approx(50.0)


def test_a_burst_counts_with_all_its_tokens():
    arrived = np.arange(1, 21) * 100 * MS
    found = rate_per_user(arrived, np.full(20, 100 * MS), np.full(20, 4))
    assert [found.estimate, found.low, found.high] == pytest.approx([40.0] * 3)
    assert rate_per_user(arrived[:0], arrived[:0], arrived[:0]).estimate is None


def test_arrivals_are_not_copied() -> None:
    """Those of a day are 250 M, mapped from a file."""
    count = 1_000_000
    arrived = np.arange(count, dtype=np.int64) * MS
    gaps, ones = np.full(count, MS), np.ones(count, dtype=np.int32)
    tracemalloc.start()
    try:
        found = rate_per_user(arrived, gaps, ones)
        assert tracemalloc.get_traced_memory()[1] < count
    finally:
        tracemalloc.stop()
    assert found.estimate == pytest.approx(1000)
