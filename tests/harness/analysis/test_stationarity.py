"""Warm-up, trends and changes of level in series that are known."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis import stationarity
from innerloop.harness.analysis.stationarity import Shift, Trend, inflation, ranks, settled_from


def trend(values: np.ndarray) -> Trend:
    found = stationarity.trend(values)
    assert found is not None
    return found


def shift(values: np.ndarray) -> Shift:
    found = stationarity.shift(values)
    assert found is not None
    return found


def wandering(seed: int, n: int, memory: float) -> np.ndarray:
    """A stationary series whose neighbours have this correlation."""
    out, last = np.empty(n), 0.0
    for i, one in enumerate(np.random.default_rng(seed).standard_normal(n).tolist()):
        out[i] = last = memory * last + one
    return out


def test_a_level_series_is_settled_from_its_start():
    assert settled_from(np.tile([1.0, 2.0, 3.0, 4.0, 5.0], 20)) == 0


def test_a_ramp_before_a_level_is_cut_off():
    ramp = np.concatenate((np.linspace(0, 100, 50), np.full(450, 100.0)))
    values = ramp + np.random.default_rng(0).standard_normal(500)
    assert settled_from(values) == pytest.approx(50, abs=5)


def test_a_series_that_only_rises_never_settles():
    assert settled_from(np.arange(500.0)) is None
    assert settled_from(np.ones(19)) is None


def test_a_trends_slope_is_the_median_of_all_pairs():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(size=40) + 0.05 * np.arange(40)
    found = trend(values)
    assert found.slope == pytest.approx(stats.theilslopes(values).slope)
    assert found.low == pytest.approx(stats.theilslopes(values).low_slope)
    assert found.high == pytest.approx(stats.theilslopes(values).high_slope)
    assert found.p < 1e-4
    assert found.low < 0.05 < found.high


@pytest.mark.parametrize("count", range(10, 30))
def test_falling_and_rising_trends_have_the_same_interval(count):
    values = np.random.default_rng(count).normal(size=count)
    up, down = trend(values), trend(-values)
    assert (down.low, down.high) == (-up.high, -up.low)


def test_one_wild_value_moves_no_slope():
    values = 3.0 * np.arange(30)
    values[7] = 1e9
    assert trend(values).slope == pytest.approx(3.0)


def test_what_stands_still_has_no_trend():
    found = trend(np.ones(20))
    assert (found.slope, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert stationarity.trend(np.arange(9.0)) is None


def test_alike_neighbours_count_for_less():
    assert inflation(np.random.default_rng(1).standard_normal(100)) < 1.6
    assert inflation(wandering(1, 100, 0.8)) > 2


@pytest.mark.parametrize("memory", [0.0, 0.3])
def test_a_level_series_is_seldom_called_a_trend(memory: float) -> None:
    alarms = sum(trend(wandering(seed, 60, memory)).p < 0.01 for seed in range(200))
    assert alarms <= 8


def test_ties_share_their_ranks():
    assert ranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_a_change_of_level_is_found_where_it_is():
    noise = np.random.default_rng(2).standard_normal(60) * 0.1
    found = shift(np.where(np.arange(60) < 25, 1.0, 2.0) + noise)
    assert found.at == 25
    assert (found.before, found.after) == pytest.approx((1.0, 2.0), abs=0.1)
    assert found.p < 1e-4


def test_a_level_series_seldom_changes_its_level():
    assert sum(shift(wandering(seed, 60, 0.3)).p < 0.01 for seed in range(200)) <= 8
    assert stationarity.shift(np.arange(9.0)) is None
