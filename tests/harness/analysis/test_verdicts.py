"""Verdicts: by hand where an interval is given, by simulation where it is estimated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from innerloop.harness.analysis.statistics import Interval
from innerloop.harness.analysis.verdicts import (
    Compared,
    alpha_spent,
    blocks_for,
    compare,
    enough,
    judge,
    looks_interval,
)


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (1.03, 1.08, "higher", ("better", None)),
        (1.03, 1.08, "lower", ("worse", None)),
        (0.90, 0.97, "higher", ("worse", None)),
        (0.90, 0.97, "lower", ("better", None)),
        (0.99, 1.01, "higher", ("same", None)),
        (1.01, 1.05, "higher", ("undecided", "better")),
        (1.01, 1.05, "lower", ("undecided", "worse")),
        (0.95, 1.05, "higher", ("undecided", None)),
        (0.95, 0.99, "higher", ("undecided", "worse")),
    ],
)
def test_the_verdict_is_where_the_interval_lies(low, high, better, verdict):
    assert judge(Interval(math.sqrt(low * high), low, high, 5), 0.02, better) == verdict


def test_without_an_interval_nothing_is_decided():
    assert judge(Interval(2.0, None, None, 2), 0.02, "higher") == ("undecided", None)
    [found] = compare({"x": ("higher", [1.0, 1.0], [2.0, 2.0])})
    assert (found.verdict, found.ratio.low, found.visible) == ("undecided", None, None)
    assert found.ratio.estimate == pytest.approx(2.0)


def test_no_side_has_an_interval_below_three_blocks_nor_a_bound_below_zero():
    """Two blocks: t is 12.7, and the mean of 1 and 2 would lie between -4.9 and 7.9."""
    [two] = compare({"x": ("higher", [1.0, 2.0], [1.0, 2.0])})
    assert (two.a.estimate, two.a.low, two.a.high, two.b.low) == (1.5, None, None, None)
    [three] = compare({"x": ("higher", [1.0, 9.0, 1.0], [2.0, 2.0, 2.0])})
    assert three.a.low == 0.0
    assert three.a.high == pytest.approx(11 / 3 + 4.3027 * 8 / 3, rel=1e-4)  # standard error 8 / 3


def test_figures_that_are_not_above_zero_have_no_ratio():
    assert compare({"x": ("higher", [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]), "y": ("lower", [], [])}) == []


def test_by_hand():
    """Ratios of 1.1, 1.2, 1.1: logs 0.0953, 0.1823, 0.0953, mean 0.1243, standard error 0.0290, t(.975, 2) = 4.3027."""
    [found] = compare({"x": ("higher", [10.0, 10.0, 20.0], [11.0, 12.0, 22.0])})
    assert found.ratio.estimate == pytest.approx(math.exp(0.12431), rel=1e-4)
    assert found.ratio.low == pytest.approx(math.exp(0.12431 - 4.3027 * 0.029004), rel=1e-4)
    assert found.a.estimate == pytest.approx(40 / 3)
    assert found.b.estimate == 15.0
    assert found.visible is not None
    assert found.visible == pytest.approx(math.expm1(math.log(1.02) + (4.3027 + 1.0607) * 0.029004), rel=1e-3)


def holds(interval: Interval, value: float) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= value <= interval.high


def p_of(found: Compared) -> float:
    assert found.p is not None
    return found.p


def scattered(rng, n, effect, scatter=0.02, drift=0.03):
    """A and B of `n` blocks: B is A x (1 + effect), each with a scatter of its own, and a scatter of the block's."""
    block = rng.normal(0, drift, n)
    a = np.exp(block + rng.normal(0, scatter, n))
    return a, (1 + effect) * np.exp(block + rng.normal(0, scatter, n))


def test_no_difference_is_seldom_called_one():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(2000):
        a, b = scattered(rng, 5, 0.0)
        [found] = compare({"x": ("higher", a, b)})
        wrong += found.verdict in ("better", "worse")
    assert wrong / 2000 < 0.05


def test_the_interval_covers_the_true_ratio():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(2000):
        a, b = scattered(rng, 6, 0.05)
        ratio = compare({"x": ("higher", a, b)})[0].ratio
        covered += holds(ratio, 1.05)
    assert 0.93 <= covered / 2000 <= 0.97


def test_the_smallest_visible_difference_is_seen_in_four_of_five():
    """Its mean over many sets, planted: with t known from six blocks only, between 75 and 85 %."""
    rng = np.random.default_rng(3)
    scatter, n = 0.02, 8
    sets = [compare({"x": ("higher", *scattered(rng, n, 0.0, scatter))})[0].visible for _ in range(400)]
    visible = np.mean([value for value in sets if value is not None])
    seen = 0
    for _ in range(1000):
        a, b = scattered(rng, n, float(visible), scatter)
        seen += compare({"x": ("higher", a, b)})[0].verdict == "better"
    assert 0.75 <= seen / 1000 <= 0.86


def test_looking_after_every_block_keeps_the_promise():
    rng = np.random.default_rng(4)
    most, held = 12, 0
    for _ in range(1000):
        a, b = scattered(rng, most, 0.05)
        looks = [looks_interval(a[:n], b[:n], most) for n in range(3, most + 1)]
        held += all(look.low is None or holds(look, 1.05) for look in looks)
    assert held / 1000 >= 0.93


def width(found: Interval) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_a_comparison_that_was_looked_at_is_as_wide_as_its_look():
    a, b = scattered(np.random.default_rng(7), 4, 0.05)
    found = compare({"x": ("higher", a, b)}, looks=8)[0]
    assert found.ratio == looks_interval(a, b, 8)
    fixed = compare({"x": ("higher", a, b)})[0]
    assert found.p is None
    for wide, narrow in ((found.ratio, fixed.ratio), (found.b, fixed.b)):
        assert width(wide) > width(narrow)
    assert (found.visible or 0) > (fixed.visible or 1)
    two = compare({"x": ("higher", a[:2], b[:2])}, looks=8)[0]
    assert (two.a.low, two.ratio.low, two.visible, two.verdict) == (None, None, None, "undecided")


@pytest.mark.slow
def test_stopping_early_gives_no_more_false_verdicts_than_all_blocks_would():
    rng = np.random.default_rng(8)
    most, wrong = 12, 0
    for _ in range(1000):
        a, b = scattered(rng, most, 0.0)
        looks = (compare({"x": ("higher", a[:n], b[:n])}, looks=most)[0] for n in range(3, most + 1))
        last = next((look for look in looks if enough(look.ratio, 0.03)), None)
        wrong += last is not None and last.verdict in ("better", "worse")
    assert wrong / 1000 <= 0.05


def test_all_looks_together_spend_what_there_is():
    assert sum(alpha_spent(n, 9, 0.05) for n in range(1, 10)) == pytest.approx(0.05)
    assert alpha_spent(2, 9, 0.05) == 0
    assert alpha_spent(10, 9, 0.05) == 0


def test_enough_and_how_many_blocks_it_would_take():
    assert enough(Interval(1.0, 1 / 1.02, 1.02, 5), 0.02)
    assert not enough(Interval(1.0, 1 / 1.03, 1.03, 5), 0.02)
    assert not enough(Interval(1.0, None, None, 2), 0.02)
    a, b = scattered(np.random.default_rng(5), 400, 0.0)
    n = blocks_for(a, b, 0.01)
    assert n is not None
    assert n == pytest.approx((1.97 * 0.02 * math.sqrt(2) / 0.00995) ** 2, rel=0.25)
    assert blocks_for(a[:2], b[:2], 0.01) is None
    assert blocks_for(np.ones(4), np.ones(4), 0.01) == 3


def test_the_other_figures_are_adjusted_together():
    rng = np.random.default_rng(6)
    pairs = {f"f{k}": ("higher", *scattered(rng, 5, 0.0)) for k in range(6)}
    alone = {name: p_of(compare({name: pairs[name]})[0]) for name in pairs}
    together = {found.name: p_of(found) for found in compare(pairs)}
    assert together["f0"] == alone["f0"]
    assert all(together[name] >= alone[name] for name in pairs)
    assert max(together[name] for name in pairs if name != "f0") <= 1.0
