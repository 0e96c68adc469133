"""One distribution as a few numbers."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from innerloop.harness.analysis.summary import durations, summary
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.quantiles import values_needed


def test_a_hand_worked_example() -> None:
    # ordered: 1 ... 100; p50 at place 49.5 = 50.5; p90 at 89.1 = 90.1; p95 at 94.05 = 95.05; p99 at 98.01 = 99.01
    found = summary(np.arange(100, 0, -1), scale=0.5)
    assert asdict(found) == {
        "mean": pytest.approx(25.25),
        "p50": pytest.approx(25.25),
        "p90": pytest.approx(45.05),
        "p95": pytest.approx(47.525),
        "p99": pytest.approx(49.505),
        "max": pytest.approx(50.0),
        "count": 100,
        **dict.fromkeys(("p50_ci", "p90_ci", "p95_ci", "p99_ci")),
        "unfinished": 0,
    }


def test_intervals_are_values_of_the_sample() -> None:
    found = summary(np.arange(1, 41), bounds=True)
    assert found.p50_ci == (14, 27)  # the binomial's ranks of 40
    assert found.p95_ci == (35, None)


def test_a_quantile_of_too_few_values_is_unknown_and_so_is_its_interval() -> None:
    found = summary(np.arange(1, 100), bounds=True)
    assert found.p95 is not None
    assert (found.p99, found.p99_ci) == (None, None)
    found = durations(np.arange(1, 18), np.arange(1, 18) < 10)  # nine of 17 had ended
    assert (found.count, found.p50, found.p90, found.p90_ci) == (9, 9.0, None, None)


def test_few_that_had_not_ended_change_nothing_and_many_make_bounds() -> None:
    values, ended = np.arange(1, 1001), np.ones(1000, dtype=bool)
    ended[[3, 7]] = False
    assert durations(values, ended).p50 == pytest.approx(501.5)
    ended[900:] = False
    found = durations(values, ended, scale=0.1)
    assert found.p50 == pytest.approx(50.1, abs=0.2)
    assert (found.p99, found.unfinished) == (None, 102)
    assert found.count == 898


def test_nothing_has_no_figures_rather_than_zeros() -> None:
    found = summary(np.empty(0))
    assert found == Summary(None, None, None, None, None, None, 0)


def test_one_value_is_mean_median_and_maximum() -> None:
    assert summary(np.array([7])) == Summary(7.0, 7.0, None, None, None, 7.0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_quantiles_are_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-1000, 1000, rng.integers(1, 200))
    found = summary(values)
    found_at = {0.5: found.p50, 0.9: found.p90, 0.95: found.p95, 0.99: found.p99}
    known = {q: value for q, value in found_at.items() if len(values) >= values_needed(q)}
    assert [*known.values()] == pytest.approx(np.quantile(values, [*known]).tolist())
    assert found.mean == pytest.approx(values.mean())


def test_the_values_are_left_in_their_order() -> None:
    values = np.array([3, 1, 2])
    summary(values)
    assert values.tolist() == [3, 1, 2]
