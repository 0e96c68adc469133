"""Figures over processes: by hand, and by simulation where an interval is promised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from innerloop.harness.analysis.trials import f_tail, half_width, mean_of_processes, processes_for, spread


def test_by_hand():
    """98, 100, 102: mean 100, standard deviation 2, standard error 2 / sqrt(3), t(.975, 2) = 4.30265."""
    found = spread(np.array([[98.0], [100.0], [102.0]]))
    reach = 4.302653 * 2 / math.sqrt(3)
    assert found.mean.estimate == 100
    assert found.mean.low == pytest.approx(100 - reach, rel=1e-6)
    assert found.mean.high == pytest.approx(100 + reach, rel=1e-6)
    assert half_width(found.mean) == pytest.approx(reach / 100, rel=1e-6)
    assert (found.low, found.high, found.window_scatter, found.differ) == (98, 102, None, None)
    assert found.scatter == pytest.approx(0.02)


def test_no_bound_of_a_mean_of_rates_is_below_0():
    """1, 2, 9: mean 4, standard error sqrt(19 / 3) = 2.517, reach 4.30265 x 2.517 = 10.83."""
    found = mean_of_processes(np.array([1.0, 2.0, 9.0]))
    assert (found.estimate, found.low) == (4, 0)
    assert found.high == pytest.approx(4 + 4.302653 * math.sqrt(19 / 3), rel=1e-6)
    assert half_width(found) == pytest.approx(4.302653 * math.sqrt(19 / 3) / 4, rel=1e-6)


def test_windows_count_with_the_mean_of_their_process():
    found = spread(np.array([[97.0, 99.0], [99.0, 101.0], [101.0, 103.0]]))
    assert found.mean == spread(np.array([[98.0], [100.0], [102.0]])).mean
    assert found.window_scatter == pytest.approx(math.sqrt(2) / 100)


def test_processes_differ_where_they_scatter_more_than_their_windows():
    """F = 2 windows x variance of the means 4 / variance within 2 = 4 with 2 and 3 degrees of freedom: p = 0.1424."""
    assert f_tail(4.0, 2, 3) == pytest.approx((1 + 2 * 4 / 3) ** -1.5, rel=1e-9)
    assert spread(np.array([[97.0, 99.0], [99.0, 101.0], [101.0, 103.0]])).differ is False
    assert spread(np.array([[97.9, 98.1], [99.9, 100.1], [101.9, 102.1]])).differ is True
    assert spread(np.ones((3, 2))).differ is False
    assert spread(np.ones((2, 2))).differ is None


def test_below_three_processes_there_are_no_bounds():
    found = mean_of_processes(np.array([1.0, 2.0]))
    assert (found.estimate, found.low, found.high, half_width(found)) == (1.5, None, None, None)
    assert mean_of_processes(np.empty(0)).estimate is None
    assert processes_for(np.array([1.0, 2.0]), 0.01) is None


def test_as_many_processes_as_it_says_give_the_half_width():
    rng = np.random.default_rng(1)
    values = rng.normal(100, 2, 4000)
    n = processes_for(values, 0.01)
    assert n is not None
    assert n == pytest.approx((1.98 * 2) ** 2, rel=0.2)
    assert processes_for(np.ones(5), 0.01) == 3


@pytest.mark.parametrize("processes", [3, 5, 10])
def test_the_interval_covers_the_mean_of_all_processes(processes):
    rng = np.random.default_rng(2)
    runs = rng.normal(100, 3, (2000, processes))
    found = [mean_of_processes(run) for run in runs]
    covered = sum((one.low or 0) <= 100 <= (one.high or 0) for one in found) / len(found)
    assert 0.93 <= covered <= 0.97


def test_stopping_when_it_is_precise_enough_keeps_the_promise():
    rng = np.random.default_rng(3)
    most, covered, stopped = 20, 0, 0
    for run in rng.normal(100, 2, (1000, most)):
        looks = (mean_of_processes(run[:n], most) for n in range(1, most + 1))
        found = next((one for one in looks if (half_width(one) or 1) <= 0.02), mean_of_processes(run, most))
        covered += (found.low or 0) <= 100 <= (found.high or 0)
        stopped += found.count < most
    assert covered / 1000 >= 0.93
    assert stopped > 500


def test_processes_that_do_not_differ_are_seldom_said_to():
    rng = np.random.default_rng(4)
    said = sum(bool(spread(rng.normal(100, 1, (4, 3))).differ) for _ in range(2000))
    assert said / 2000 < 0.065
