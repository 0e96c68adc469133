"""The rule that ends a warm-up."""

from __future__ import annotations

import math

import pytest

from innerloop.engines.worker.convergence import deviation, has_converged


@pytest.mark.parametrize(
    ("rates", "expected", "why"),
    [
        ([], False, "nothing yet"),
        ([100, 100], False, "two rounds are fewer than three"),
        ([100, 100, 100], True, "three alike"),
        ([10, 30, 100, 104, 101], True, "only the last three count"),
        ([100, 94, 100], False, "one is 6 % below the median"),
        ([100, 95.1, 100], True, "one is 4.9 % below the median"),
        ([100, 101, 103], False, "still rising, by 3 %"),
        ([100, 101, 102], True, "rising by 2 %, which is noise"),
        ([104, 101, 100], True, "falling is no warm-up"),
        ([100, 0, 100], False, "a round without tokens"),
        ([0, 0, 0], False, "no speed at all"),
        ([100, math.nan, 100], False, "not a number"),
        ([100, math.inf, 100], False, "infinite"),
    ],
)
def test_has_converged(rates: list[float], expected: bool, why: str) -> None:
    assert has_converged(rates) is expected, why


def test_tolerance_and_window_are_the_callers() -> None:
    assert not has_converged([100, 90, 100, 100])
    assert has_converged([100, 90, 100, 100], tolerance=0.2)
    assert not has_converged([100, 90, 100, 100, 100], window=4)


@pytest.mark.parametrize("arguments", [{"window": 1}, {"tolerance": 0.0}])
def test_a_rule_that_could_not_say_no_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs a window"):
        has_converged([1.0, 1.0, 1.0], **arguments)  # type: ignore[arg-type]


def test_how_far_rounds_lie_apart() -> None:
    assert deviation([50, 100, 91, 100]) == pytest.approx(0.09)  # the last three, from their median, 100
    assert deviation([100, 100]) is None
    assert deviation([0, 0, 0]) is None
