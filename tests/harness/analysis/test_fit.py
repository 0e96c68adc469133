"""Linear least squares: known coefficients come back, and what cannot be told is said."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.distributions import t_quantile
from innerloop.harness.analysis.fit import expected, least_squares


def noise(size, scale, seed=0):
    return np.random.default_rng(seed).normal(0, scale, size)


def test_an_exact_line_is_found_exactly():
    x = np.arange(50.0)
    fit = least_squares({"x": x}, 3 + 2 * x)
    assert fit.costs["fixed"].estimate == pytest.approx(3)
    assert fit.costs["x"].estimate == pytest.approx(2)
    assert fit.r2 == pytest.approx(1)
    assert fit.rows == 50


def test_intervals_hold_the_true_cost_about_nineteen_times_in_twenty():
    x = np.linspace(0, 10, 60)
    hits = 0
    for seed in range(200):
        y = 1 + 0.5 * x + noise(60, 0.2 + 0.1 * x, seed)  # the scatter grows, as that of steps does
        cost = least_squares({"x": x}, y).costs["x"]
        hits += cost.low <= 0.5 <= cost.high
    assert 180 <= hits <= 200


def test_columns_of_very_different_size_do_not_lose_each_other():
    rng = np.random.default_rng(1)
    big, small = rng.uniform(1e6, 1e9, 400), rng.uniform(0, 1, 400)
    fit = least_squares({"big": big, "small": small}, 1e-3 + 2e-9 * big + 0.01 * small)
    assert fit.costs["big"].estimate == pytest.approx(2e-9)
    assert fit.costs["small"].estimate == pytest.approx(0.01)


def test_a_column_that_never_changes_is_named_and_left_out():
    x = np.arange(30.0)
    fit = least_squares({"batch": np.full(30, 64.0), "x": x}, 5 + x)
    assert fit.dropped == {"batch": "it is 64 in every step"}
    assert set(fit.costs) == {"fixed", "x"}


def test_a_column_that_another_explains_is_named_and_left_out():
    x = np.arange(30.0)
    fit = least_squares({"x": x, "twice": 2 * x + 7}, 5 + x)
    assert fit.dropped == {"twice": "it is exactly collinear with x"}


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_too_few_rows_are_a_reason(rows):
    fit = least_squares({"x": np.arange(float(rows))}, np.arange(float(rows)))
    assert fit.reason == ("1 step is too few for a fit" if rows == 1 else f"{rows} steps are too few for a fit")
    assert fit.costs == {}


def test_rows_that_are_all_alike_explain_nothing():
    fit = least_squares({"x": np.arange(20.0)}, np.full(20, 4.0))
    assert fit.r2 is None
    assert fit.costs["x"].estimate == pytest.approx(0, abs=1e-12)


def test_rows_that_differ_by_rounding_alone_are_alike():
    wall = np.full(20, 0.039) + np.tile([0.0, 7e-18], 10)
    fit = least_squares({"x": np.arange(20.0)}, wall)
    assert (fit.r2, fit.misfit) == (None, None)


def test_a_line_with_a_cost_that_is_surely_negative_does_not_describe_its_rows():
    x = np.arange(50.0)
    assert least_squares({"x": x}, 100 - x + noise(50, 0.1)).misfit == "negative_cost"
    assert least_squares({"x": x}, 100 + x + noise(50, 0.1)).misfit is None


def test_a_line_that_explains_little_does_not_describe_its_rows():
    x = np.arange(200.0)
    little = least_squares({"x": x}, 5 + 0.005 * x + noise(200, 1.0))  # variances 0.083 and 1: r2 is near 0.08
    assert little.r2 == pytest.approx(0.08, abs=0.08)
    assert little.misfit == "low_r2"
    assert least_squares({"x": x}, 5 + 0.03 * x + noise(200, 1.0)).misfit is None  # variances 3 and 1: r2 near 0.75


def test_expected_gives_the_line():
    x = np.arange(20.0)
    fit = least_squares({"x": x}, 1 + x)
    assert expected(fit, {"x": np.array([100.0]), "unknown": np.array([9.0])}).tolist() == pytest.approx([101])


def test_students_quantile_is_close_to_the_tables():
    for freedom, value in ((4, 2.776), (10, 2.228), (30, 2.042), (1000, 1.962)):
        assert t_quantile(0.975, freedom) == pytest.approx(value, abs=5e-4)


def test_columns_that_rise_together_are_named():
    rng = np.random.default_rng(2)
    batch = rng.integers(1, 60, 300).astype(float)
    context = batch * 200 + rng.normal(0, 100, 300)
    fit = least_squares({"batch": batch, "context": context}, batch + noise(300, 0.1))
    [(a, b, r)] = fit.together
    assert (a, b) == ("batch", "context")
    assert 0.99 < r < 1
    apart = least_squares({"batch": batch, "context": rng.permutation(context)}, batch)
    assert apart.together == ()
