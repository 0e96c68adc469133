"""Log-probabilities against a reference's: errors, lines, flips, where it goes wrong first; by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.verification import (
    Scored,
    agreement,
    batch_effect,
    chosen,
    first_divergence,
    floor_of,
    lines_of,
    missed,
    sizes,
    steps_of,
)
from innerloop.harness.schema.verification import Lines

LINES = Lines(
    rms_nats=0.3, p99_nats=0.6, margin_nats=1.0, flip_share=0.2, batch_rms_nats=0.4, batch_p99_nats=0.8
)  # fmt: skip


def scored(**changes: Any) -> Scored:
    """Two requests with three and two tokens; the second token of request 0 is not the reference's first choice."""
    values: dict[str, Any] = {
        "request": [0, 0, 0, 3, 3],
        "position": [0, 1, 2, 0, 1],
        "ids": [5, 6, 7, 8, 9],
        "own": [-1.1, -2.0, -1.0, -1.0, -1.2],
        "token": [-1.0, -2.0, -1.0, -1.0, -1.0],
        "top": [-1.0, -1.5, -1.0, -1.0, -1.0],
        "top_id": [5, 60, 7, 8, 9],
        "rough": [-1.0, -2.0, -1.0, -1.03, -1.04],
        "rough_top_id": [5, 60, 7, 8, 90],
    }
    arrays: dict[str, Any] = {
        name: None if value is None else np.array(value) for name, value in {**values, **changes}.items()
    }
    return Scored(**arrays)


def test_sizes_are_of_absolute_values() -> None:
    assert sizes(np.array([3.0, -4.0])) == pytest.approx((math.sqrt(12.5), 3.99, 4.0))


def test_the_floor_is_what_the_rough_reference_loses_and_the_lines_are_three_times_that() -> None:
    floor = floor_of(scored(), "bfloat16")
    assert floor.formats == "bfloat16"
    found = (floor.rms_nats, floor.p99_nats, floor.worst_nats, floor.flip_share)
    assert found == pytest.approx((math.sqrt((0.03**2 + 0.04**2) / 5), 0.0396, 0.04, 0.2))
    lines = lines_of(floor)
    assert lines.rms_nats == pytest.approx(3 * floor.rms_nats)
    assert lines.p99_nats == pytest.approx(3 * floor.p99_nats)
    assert lines.margin_nats == pytest.approx(0.24)
    assert lines.flip_share == pytest.approx(0.6)
    assert lines.batch_rms_nats == pytest.approx(math.sqrt(2) * 3 * floor.rms_nats)


def test_an_agreement_counts_flips_and_those_beyond_the_margin() -> None:
    found = agreement(scored(), LINES)
    assert (found.requests, found.positions, found.flips, found.flips_beyond) == (2, 5, 1, 0)
    assert found.worst_flip_nats == pytest.approx(0.5)
    assert found.rms_nats == pytest.approx(math.sqrt((0.1**2 + 0.2**2) / 5))
    assert found.worst_nats == pytest.approx(0.2)
    beyond = agreement(scored(top=[-1.0, -0.5, -1.0, -1.0, -1.0]), LINES)
    assert (beyond.flips, beyond.flips_beyond) == (1, 1)


def test_without_log_probabilities_only_tokens_are_judged() -> None:
    found = agreement(scored(own=None), LINES)
    assert (found.rms_nats, found.p99_nats, found.worst_nats, found.not_finite, found.flips) == (None, None, None, 0, 1)
    assert missed({"run": found}, None, LINES) == ()


def test_more_flips_than_rounding_makes_do_not_pass_though_each_is_within_the_margin() -> None:
    many = scored(
        **{
            name: np.repeat(value, 4)
            for name, value in vars(scored(own=None, top=[-0.9] * 5, top_id=[50, 60, 70, 80, 90])).items()
            if value is not None
        },
        own=None,
    )
    found = agreement(many, LINES)
    assert (found.flips, found.flips_beyond) == (20, 4)
    [_, flips] = missed({"run": found}, None, LINES)
    assert (flips.figure, flips.value, flips.line) == ("flips", 20, 0.2 * 20 + 3)


def test_what_is_no_number_is_counted_and_does_not_pass() -> None:
    found = agreement(scored(own=[np.nan, -2.0, -1.0, -np.inf, -1.2]), LINES)
    assert found.not_finite == 2
    assert found.rms_nats == pytest.approx(math.sqrt(0.04 / 3))
    [only] = missed({"repeat": found}, None, LINES)
    assert (only.way, only.figure, only.value, only.line) == ("repeat", "not_finite", 2, 0)


def test_each_line_that_is_not_met_is_named_with_its_way() -> None:
    wrong = agreement(scored(own=[-3.0, -2.0, -1.0, -1.0, -1.2]), LINES)
    batch = batch_effect(scored(own=[-2.0, -2.0, -1.0, -1.0, -1.2]), scored())
    found = missed({"repeat": wrong}, batch, LINES)
    assert [(one.way, one.figure) for one in found] == [
        ("repeat", "rms_nats"), ("repeat", "p99_nats"), ("batch", "rms_nats"), ("batch", "p99_nats"),
    ]  # fmt: skip


def test_batches_are_compared_with_one_at_a_time_up_to_where_tokens_part() -> None:
    alone = scored(
        request=[0, 0, 0], position=[0, 1, 2], ids=[5, 6, 99], own=[-1.0, -2.0, -1.0], token=[-1.0] * 3, top=[-1.0] * 3,
        top_id=[5, 6, 99], rough=[-1.0] * 3, rough_top_id=[5, 6, 99],
    )  # fmt: skip
    found = batch_effect(scored(), alone)
    assert (found.requests, found.positions, found.parted) == (1, 2, 1)
    assert found.rms_nats == pytest.approx(0.1 / math.sqrt(2))
    silent = batch_effect(scored(own=None), alone)
    assert (silent.positions, silent.rms_nats, silent.p99_nats) == (2, None, None)


def tables(make_steps: Any, make_tokens: Any) -> tuple[np.ndarray, np.ndarray]:
    """Request 3 got its tokens in steps 0 and 1, request 0 its three in steps 1 and 2, two at once."""
    steps = make_steps([0, 10, 20], [9, 19, 29], running=[1, 2, 1])
    tokens = make_tokens([9, 19, 19, 29], [3, 3, 0, 0], [1, 1, 1, 2])
    tokens["step"] = [0, 1, 1, 2]
    return steps, tokens


def test_each_token_has_the_step_that_gave_it(make_steps, make_tokens) -> None:
    _, tokens = tables(make_steps, make_tokens)
    assert steps_of(scored(), tokens).tolist() == [1, 2, 2, 0, 1]


def test_the_first_divergence_is_the_first_in_time(make_steps, make_tokens) -> None:
    steps, tokens = tables(make_steps, make_tokens)
    wrong = scored(own=None, top=[-1.0, 1.0, -1.0, -1.0, 1.0], top_id=[5, 60, 7, 8, 90])
    found = first_divergence({"run": wrong}, LINES, steps, tokens)
    assert found is not None
    assert (found.way, found.request, found.position, found.step, found.running) == ("run", 3, 1, 1, 2)
    assert found.nats == pytest.approx(2.0)
    assert first_divergence({"run": scored(own=None)}, LINES, steps, tokens) is None


def test_where_the_run_is_right_the_divergence_is_another_ways(make_steps, make_tokens) -> None:
    steps, tokens = tables(make_steps, make_tokens)
    wrong = scored(own=[-1.0, -2.0, np.nan, -1.0, -9.0])
    found = first_divergence({"run": scored(own=None), "repeat": wrong}, LINES, steps, tokens)
    assert found is not None
    assert (found.way, found.request, found.position, found.nats, found.step) == ("repeat", 0, 2, None, None)


def test_experts_are_ranked_in_each_layer_before_the_mean() -> None:
    """10 positions, each takes two of three: layer 0 chose 9, 1, 10 times, layer 1 8, 8, 4 times."""
    found = chosen(np.array([[9, 1, 10], [8, 8, 4]]), 10)
    assert (found.layers, found.positions) == (2, 10)
    assert found.shares == pytest.approx((0.9, 0.85, 0.25))
    assert sum(found.shares) == pytest.approx(2)
