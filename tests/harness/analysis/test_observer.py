from __future__ import annotations

import math

import pytest

from innerloop.harness.analysis.observer import StepRatio, step_ratio


def test_the_median_and_the_order_statistics_around_it():
    # bare / recorded: 0.91, 0.92 ... 1.06; of 16 the 4th and the 13th hold 1 - 2 x 697 / 2^16 = 97.9 %, the 5th and the
    # 12th only 1 - 2 x 2517 / 2^16 = 92.3 %.
    pairs = [(9_100 + 100 * k, 10_000) for k in range(16)]
    found = step_ratio(pairs[::-1])
    assert (found.median, found.low, found.high) == pytest.approx((0.985, 0.94, 1.03))
    assert found.pairs == 16


@pytest.mark.parametrize(("pairs", "count"), [([], None), ([(9, 10)] * 7, 7), ([(9, 10)] * 7 + [(1, 0)], 7)])
def test_few_pairs_give_no_ratio(pairs, count):
    assert step_ratio(pairs) == StepRatio(pairs=count)


@pytest.mark.parametrize("count", range(8, 41))
def test_the_interval_holds_95_percent_with_any_number_of_pairs(count):
    found = step_ratio([(k, 1) for k in range(1, count + 1)])
    low, high = int(found.low or 0), int(found.high or 0)
    inside = sum(math.comb(count, k) for k in range(low, high)) / 2**count  # so many lie below the median
    assert inside >= 0.95
