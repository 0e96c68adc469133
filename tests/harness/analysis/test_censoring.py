"""Kaplan's and Meier's estimate by hand."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.censoring import quantile, quantile_bounds, survival


def test_five_durations_of_which_two_had_not_ended():
    # 1 and 3 end, 2 is cut: 4/5 last longer than 1, 4/5 x 2/3 longer than 3; 4 ends: 4/5 x 2/3 x 1/2; 5 is cut
    found = survival(np.array([5.0, 1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True, True]))
    assert found.times.tolist() == [1.0, 3.0, 4.0]
    assert found.share == pytest.approx([4 / 5, 8 / 15, 4 / 15])
    assert quantile(found, 0.5) == 4.0
    assert quantile(found, 0.9) is None
    assert found.longest == 5.0


def test_without_cuts_it_is_the_smallest_value_that_so_many_do_not_exceed():
    values = np.arange(1.0, 101.0)
    found = survival(values, np.ones(100, dtype=bool))
    assert quantile(found, 0.99) == 99.0
    low, high = quantile_bounds(found, 0.5)
    assert low is not None
    assert high is not None
    assert 38 <= low <= 42
    assert 58 <= high <= 62


def test_the_unfinished_raise_a_quantile_that_the_finished_alone_would_put_too_low():
    values = np.arange(1.0, 101.0)
    ended = values <= 80
    all_of_them = survival(values, ended)
    assert quantile(all_of_them, 0.5) == 50.0
    assert np.quantile(values[ended], 0.5) == 40.5
    assert quantile(all_of_them, 0.9) is None
    assert quantile_bounds(all_of_them, 0.9)[1] is None


def test_nothing_ended():
    found = survival(np.array([3.0, 2.0]), np.zeros(2, dtype=bool))
    assert quantile(found, 0.5) is None
    assert quantile_bounds(found, 0.5) == (None, None)


def test_bounds_hold_the_median_of_exponential_durations():
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(200):
        lasting, seen = rng.exponential(1, 200), rng.exponential(2, 200)
        low, high = quantile_bounds(survival(np.minimum(lasting, seen), lasting <= seen), 0.5)
        held += low <= np.log(2) <= high
    assert 182 <= held <= 199


def test_the_longest_of_all_is_no_upper_bound_of_a_high_quantile():
    """Of 100 values the largest lies above the 99 % quantile with 1 - 0.99^100 = 63 %; two were cut early."""
    values = np.arange(1.0, 103.0)
    found = survival(values, ~np.isin(values, (1.0, 2.0)))
    assert found.share[-1] == 0
    low, high = quantile_bounds(found, 0.99)
    assert high is None
    assert low is not None
    assert low <= 99
    assert quantile_bounds(found, 0.5)[1] is not None
