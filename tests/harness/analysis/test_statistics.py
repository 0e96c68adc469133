"""Intervals by hand, and how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from innerloop.harness.analysis import statistics
from innerloop.harness.analysis.statistics import Interval


def width(found: Interval) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def holds(found: Interval, truth: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def both(bounds: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = bounds
    assert low is not None
    assert high is not None
    return low, high


def test_a_mean_of_three():
    # 1, 2, 3: standard error 1 / sqrt(3), t of two degrees 4.302653
    found = statistics.mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (found.estimate, found.count) == (2.0, 3)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)


def test_one_value_has_no_bounds_and_none_no_mean():
    assert statistics.mean_interval(np.array([5.0])) == Interval(5.0, None, None, 1)
    assert statistics.mean_interval(np.empty(0)) == Interval(None, None, None, 0)


def test_a_ratio_of_sums_is_no_mean_of_ratios():
    # 10 in 1 s and 10 in 4 s are 4 a second, not (10 + 2.5) / 2
    found = statistics.ratio_interval(np.array([10.0, 10.0]), np.array([1.0, 4.0]))
    assert found == Interval(4.0, None, None, 2)


def test_batches_that_are_alike_leave_a_ratio_in_no_doubt():
    found = statistics.ratio_interval(np.array([6.0, 12.0, 18.0, 0.0]), np.array([2.0, 4.0, 6.0, 0.0]))
    assert found == Interval(3.0, 3.0, 3.0, 3)


def test_wilsons_interval_of_eight_in_ten():
    # z = 1.959964: middle (0.8 + 0.192073) / 1.384146, reach 0.313710 / 1.384146
    found = statistics.wilson_interval(8, 10)
    assert found.low == pytest.approx(0.490162, abs=1e-6)
    assert found.high == pytest.approx(0.943318, abs=1e-6)
    assert statistics.wilson_interval(0, 5).low == 0.0
    assert statistics.wilson_interval(0, 0).estimate is None


def test_batch_means_widen_where_neighbours_are_alike():
    independent = np.random.default_rng(1).standard_normal(1000)
    alike = np.repeat(independent[:50], 20)  # as many values, 50 of them different
    near, far = (statistics.batch_means_interval(values) for values in (independent, alike))
    assert near.count == far.count == statistics.BATCHES
    assert width(far) > 2 * width(near)


def test_batch_means_hold_the_truth_of_a_correlated_series():
    held = 0
    for seed in range(200):
        noise = np.random.default_rng(seed).standard_normal(2000)
        series = np.empty(2000)
        last = 0.0
        for i, one in enumerate(noise.tolist()):
            series[i] = last = 0.8 * last + one
        found = statistics.batch_means_interval(series)
        held += holds(found, 0)
    assert 180 <= held <= 198


def test_a_series_too_short_for_batches_has_no_bounds():
    assert statistics.batch_means_interval(np.arange(9.0)) == Interval(4.0, None, None, 9)


def test_a_quantiles_bounds_are_values_of_the_sample():
    values = np.random.default_rng(2).permutation(1000) + 1.0
    low, high = both(statistics.quantile_bounds(values, np.sort(values), 0.5))
    assert low <= 469  # the binomial's ranks are 469 and 532
    assert high >= 532
    assert statistics.quantile_bounds(np.empty(0), np.empty(0), 0.5) == (None, None)


def test_a_high_quantile_of_few_has_no_upper_bound():
    values = np.arange(1.0, 65.0)
    assert statistics.quantile_bounds(values, values, 0.99)[1] is None


def test_a_quantile_of_values_that_come_in_runs_is_known_less_well():
    values = np.repeat(np.random.default_rng(3).permutation(50), 20).astype(float)
    low, high = both(statistics.quantile_bounds(values, np.sort(values), 0.5))
    mixed = np.random.default_rng(4).permutation(values)
    near_low, near_high = both(statistics.quantile_bounds(mixed, np.sort(mixed), 0.5))
    assert high - low > 2 * (near_high - near_low)


@pytest.mark.parametrize(("q", "count"), [(0.9, 64), (0.95, 130), (0.99, 662)])
def test_mlperf_certifies_a_quantile_from_these_counts_on(q: float, count: int) -> None:
    assert statistics.certified_from(q) == count


def test_a_paired_ratio_is_the_geometric_mean_over_blocks():
    # blocks of one machine that becomes slower: only the ratio within a block counts
    a, b = np.array([100.0, 50.0, 10.0]), np.array([110.0, 55.0, 11.0])
    found = statistics.paired_ratio(a, b)
    assert (found.estimate, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))
    two = statistics.paired_ratio(a[:2], b[:2])
    assert two.estimate == pytest.approx(1.1)
    assert (two.low, two.high, two.count) == (None, None, 2)


def test_signs_of_six_blocks_bound_by_the_smallest_and_the_largest():
    # 2^6 = 64 parts, 2.5 % of them are 1.6: one is cut off at either end, so the bounds are the extreme subsets' means
    logs = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    found = statistics.paired_ratio_by_signs(np.ones(6), np.exp(logs))
    assert [found.estimate, found.low, found.high] == pytest.approx(np.exp([0.35, 0.1, 0.6]).tolist())
    assert statistics.paired_ratio_by_signs(np.ones(5), np.exp(logs[:5])).low is None


@pytest.mark.parametrize("method", [statistics.paired_ratio, statistics.paired_ratio_by_signs])
def test_both_hold_no_difference_as_often_as_they_say(method) -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        found = method(np.exp(rng.normal(0, 0.1, 8)), np.exp(rng.normal(0, 0.1, 8)))
        held += holds(found, 1)
    assert 0.925 * 400 <= held <= 0.98 * 400


def test_p_of_a_paired_ratio():
    scipy = pytest.importorskip("scipy.stats")
    a, b = np.ones(4), np.exp([0.1, 0.3, -0.05, 0.2])
    assert statistics.paired_p(a, b) == pytest.approx(scipy.ttest_1samp(np.log(b), 0).pvalue)
    assert statistics.paired_p(a[:2], b[:2]) is None
    assert statistics.paired_p(a, a) == 1.0


def test_holm_by_hand():
    # sorted 0.01 x 3, 0.02 x 2, 0.5 x 1; 0.03 and 0.04 rise already
    assert statistics.holm(np.array([0.5, 0.01, 0.02])).tolist() == pytest.approx([0.5, 0.03, 0.04])
    # 0.02 x 2 = 0.04 is less than 0.015 x 3 = 0.045, and no adjusted p falls again
    assert statistics.holm(np.array([0.015, 0.02, 0.9])).tolist() == pytest.approx([0.045, 0.045, 0.9])


def test_the_smallest_visible_difference():
    # t.975 and t.8 of 5 degrees: 2.570582 and 0.919544
    assert statistics.smallest_visible(0.01, 5, 0.02) == pytest.approx(0.02 + 0.01 * (2.570582 + 0.919544), abs=1e-8)
