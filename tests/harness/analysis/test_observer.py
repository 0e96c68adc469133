from __future__ import annotations

import pytest

from innerloop.harness.analysis.observer import StepRatio, step_ratio


def test_the_median_and_the_order_statistics_around_it():
    # bare / recorded: 0.91, 0.92 ... 1.06; n = 16, ranks 8 -+ 3.92 from 0: the 5th and the 12th.
    pairs = [(9_100 + 100 * k, 10_000) for k in range(16)]
    found = step_ratio(pairs[::-1])
    assert (found.median, found.low, found.high) == pytest.approx((0.985, 0.95, 1.02))
    assert found.pairs == 16


@pytest.mark.parametrize(("pairs", "count"), [([], None), ([(9, 10)] * 7, 7), ([(9, 10)] * 7 + [(1, 0)], 7)])
def test_few_pairs_give_no_ratio(pairs, count):
    assert step_ratio(pairs) == StepRatio(pairs=count)
