"""Noise: its size by hand, and the number of blocks that follows from it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from innerloop.harness.analysis.noise import (
    blocks_to_see,
    blocks_within,
    half_width_with,
    scatter_of,
    visible_with,
)
from innerloop.harness.analysis.verdicts import compare


def test_by_hand() -> None:
    """Log ratios 0.01, -0.02, 0.02 about 0: sqrt((1 + 4 + 4) / 3) per cent."""
    a = np.array([100.0, 100.0, 100.0])
    found = scatter_of(a, a * np.exp([0.01, -0.02, 0.02]))
    assert found is not None
    assert found.neighbours == pytest.approx(math.sqrt(3) / 100)
    values = np.array([0, 0, 0, 0.01, -0.02, 0.02])
    assert found.processes == pytest.approx(values.std(ddof=1))
    assert scatter_of(a[:2], a[:2]) is None


def test_widths_by_hand() -> None:
    """Four blocks: t(.975, 3) = 3.18245, t(.8, 3) = 0.97847; a scatter of 2 % gives an error of 1 %."""
    assert half_width_with(4, 0.02) == pytest.approx(math.expm1(0.0318245), rel=1e-5)
    assert visible_with(4, 0.02, 0.02) == pytest.approx(math.expm1(math.log(1.02) + 0.0416092), rel=1e-5)


@pytest.mark.parametrize("effect", [0.03, 0.05, 0.2])
def test_the_fewest_blocks_that_show_an_effect(effect: float) -> None:
    n = blocks_to_see(effect, 0.02, 0.02)
    assert n is not None
    assert visible_with(n, 0.02, 0.02) <= effect
    assert n == 3 or visible_with(n - 1, 0.02, 0.02) > effect


def test_no_number_of_blocks_shows_what_lies_within_the_margin() -> None:
    assert blocks_to_see(0.02, 0.02, 0.02) is None
    assert blocks_to_see(0.0201, 0.5, 0.02) is None


def test_the_fewest_blocks_of_an_interval() -> None:
    n = blocks_within(0.01, 0.02)
    assert n is not None
    assert half_width_with(n, 0.02) <= 0.01 < half_width_with(n - 1, 0.02)
    assert blocks_within(1e-9, 0.02) is None


def test_as_many_blocks_as_an_effect_takes_find_it_in_four_of_five() -> None:
    rng = np.random.default_rng(11)
    scatter, margin, effect = 0.02, 0.01, 0.03
    n = blocks_to_see(effect, scatter, margin)
    assert n is not None
    seen = 0
    for _ in range(1000):
        ratios = np.exp(rng.normal(math.log1p(effect), scatter, n))
        seen += compare({"x": ("higher", [1.0] * n, ratios.tolist())}, margin)[0].verdict == "better"
    assert 0.75 <= seen / 1000 <= 0.87
