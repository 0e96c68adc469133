"""Quantiles against scipy's, and the ranks that bound a quantile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis import distributions


@pytest.fixture(scope="module")
def stats() -> Any:
    return pytest.importorskip("scipy.stats")  # its import takes a second


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 19, 100, 5000])
@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.6, 0.8, 0.975, 0.9999])
def test_quantiles_of_students_t_are_scipys(stats: Any, p: float, freedom: int) -> None:
    assert distributions.t_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("x", [-40.0, -1.0, 0.0, 0.3, 2.0, 100.0])
def test_so_is_its_distribution(stats: Any, x: float) -> None:
    assert distributions.t_cdf(x, 3) == pytest.approx(stats.t.cdf(x, 3), rel=1e-9)


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (64, 0.99), (500, 0.9), (10_000, 0.999)])
def test_a_binomial_distribution_is_scipys(stats: Any, n: int, p: float) -> None:
    expected = stats.binom.cdf(np.arange(n + 1), n, p)
    np.testing.assert_allclose(distributions.binomial_cdf(n, p), expected, atol=1e-10)


def test_normal_quantiles_and_tails():
    assert distributions.normal_quantile(0.975) == pytest.approx(1.959964, abs=1e-6)
    assert distributions.normal_tail(-1.959964) == pytest.approx(0.05, abs=1e-6)


def test_few_values_do_not_bound_a_high_quantile():
    # of 64 values the 61st bounds p99 below; above there is none: even the largest lies below it with 0.99^64 = 53 %
    assert distributions.rank_bounds(64, 0.99, 0.95) == (61, 65)
    assert distributions.rank_bounds(1000, 0.99, 0.95) == (983, 997)


@pytest.mark.parametrize(("n", "q"), [(10, 0.5), (99, 0.9), (3000, 0.95)])
def test_ranks_hold_the_quantile_as_often_as_asked(stats: Any, n: int, q: float) -> None:
    # the quantile lies between the values of rank low and high if low <= B < high, B the number of values below it
    low, high = distributions.rank_bounds(n, q, 0.95)
    below, above = stats.binom.cdf(low - 1, n, q), stats.binom.sf(high - 1, n, q)
    assert below <= 0.025
    assert above <= 0.025
    assert stats.binom.cdf(low, n, q) > 0.025
    assert stats.binom.sf(high - 2, n, q) > 0.025


def test_many_values_are_taken_as_normal():
    low, high = distributions.rank_bounds(1_000_000, 0.5, 0.95)
    assert (low, high) == (500_000 - 980, 500_000 + 981)
