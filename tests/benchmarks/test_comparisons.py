"""How often comparisons are right, on fewer simulated ones than `python -m benchmarks.comparisons` takes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.comparisons import FAULTS, SPREAD, found_right, population, rates, sequential, smoothed

PEOPLE = population(SPREAD)


def test_draws_have_the_scatter_of_the_spread() -> None:
    a, b = PEOPLE.draw(np.random.default_rng(1), 20_000)
    assert np.log(b / a).std() == pytest.approx(PEOPLE.scatter, rel=0.03)
    drawn = smoothed(np.random.default_rng(2), PEOPLE.levels, 20_000)
    assert drawn.std() == pytest.approx(PEOPLE.levels.std(), rel=0.03)


def test_the_scatter_by_hand() -> None:
    """Log ratios 0.02, -0.02, 0.02: the standard deviation of a ratio whose mean is 0 is 0.02."""
    spread = [(100.0, 100.0 * np.exp(0.02)), (90.0, 90.0 * np.exp(-0.02)), (95.0, 95.0 * np.exp(0.02))]
    assert population(spread).scatter == pytest.approx(0.02, rel=1e-9)


@pytest.mark.parametrize("blocks", [5, 8])
def test_verdicts_on_the_real_spread_are_as_often_right_as_they_say(blocks: int) -> None:
    """The whole takes 2 000 comparisons; of 600, shares are within 3 % of theirs."""
    found = rates(PEOPLE, blocks, 600, seed=blocks)
    assert found["false verdicts"] <= 0.05
    assert 0.93 <= found["intervals that hold"] <= 0.975
    assert 0.72 <= found["found"] <= 0.88


def test_looking_after_every_block_keeps_both_promises() -> None:
    found = sequential(PEOPLE, 300, seed=9)
    assert found["false verdicts"] <= 0.05
    assert found["intervals that hold"] >= 0.93


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_where_it_is(name: str) -> None:
    assert [seed for seed in range(2) if not found_right(FAULTS[name], seed)] == []
