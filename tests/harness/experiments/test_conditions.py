"""The conditions of a gate: how they are written, and what they say of an interval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from innerloop.harness.cli.errors import EXIT_OK, EXIT_UNDECIDED, EXIT_WORSE, Refused
from innerloop.harness.experiments.conditions import (
    EXIT,
    Condition,
    Rules,
    default_condition,
    judge,
    lies,
    parse,
    rules_of,
)
from innerloop.harness.schema.comparison import ComparedFigure, Comparison, Estimate, Side

SPEED, TAIL = "throughput.output_tokens_per_s", "latency_s.itl.p99"


@pytest.mark.parametrize(
    ("text", "figure", "fails", "limit", "relative"),
    [
        ("output_tokens_per_s < 0.97 * baseline", SPEED, "below", 0.97, True),
        ("output_tokens_per_s<0.97*baseline", SPEED, "below", 0.97, True),
        ("output_tokens_per_s < 97% * baseline", SPEED, "below", 0.97, True),
        ("output_tokens_per_s < 97 % of baseline", SPEED, "below", 0.97, True),
        ("output_tokens_per_s <= baseline * .97", SPEED, "below", 0.97, True),
        ("output_tokens_per_s < baseline", SPEED, "below", 1.0, True),
        ("output_tokens_per_s < 1200", SPEED, "below", 1200.0, False),
        ("latency_s.itl.p99 > 50 ms", TAIL, "above", 0.05, False),
        ("itl.p99 > 50ms", TAIL, "above", 0.05, False),
        ("itl.p99 >= 5e-2", TAIL, "above", 0.05, False),
        ("itl.p99 > 800 µs", TAIL, "above", 0.0008, False),
        ("itl.p99 > 1.05 * baseline", TAIL, "above", 1.05, True),
    ],
)
def test_a_condition_names_a_figure_a_side_and_a_limit(text, figure, fails, limit, relative) -> None:
    found = parse(text)
    assert found.limit == pytest.approx(limit)
    assert found == Condition(text, figure, fails, found.limit, relative)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("output_tokens_per_s", "not a condition"),
        ("output_tokens_per_s = 3", "not a condition"),
        ("output_tokens_per_s < much", "not a valid threshold"),
        ("output_tokens_per_s < 0.97 * base", "not a valid threshold"),
        ("output_tokens_per_s < -1", "not a valid threshold"),
        ("output_token_per_s < 1", "did you mean"),
        ("p99 > 1", "is ambiguous"),
        ("output_tokens_per_s < 50 ms", "not in seconds"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        parse(text)
    assert str(refused.value).startswith("--fail-if: ")


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.90, 0.96, "failed"),
        (0.90, 0.9699, "failed"),
        (0.97, 1.10, "passed"),
        (0.98, 0.99, "passed"),
        (0.90, 0.97, "cannot tell"),
        (0.96, 1.20, "cannot tell"),
    ],
)
def test_the_interval_decides(low: float, high: float, outcome: str) -> None:
    assert lies(Estimate(1.0, low, high), parse("output_tokens_per_s < 0.97 * baseline"))[0] == outcome
    mirrored = Condition("", TAIL, "above", -0.97, True)
    assert lies(Estimate(-1.0, -high, -low), mirrored)[0] == outcome


def test_without_an_interval_nothing_is_decided_however_far_off() -> None:
    for value in (0.1, 10.0):
        outcome, reason = lies(Estimate(value, None, None), parse("output_tokens_per_s < 0.97 * baseline"))
        assert (outcome, reason) == ("cannot tell", "it has no interval: that needs at least three runs per side")


def test_the_default_is_worse_by_more_than_the_margin() -> None:
    assert default_condition(SPEED, 0.02).text == f"{SPEED} < 0.98 * baseline"
    assert default_condition(TAIL, 0.05).text == f"{TAIL} > 1.05 * baseline"


def row(name: str, ratio: Estimate, b: Estimate, **changes: Any) -> ComparedFigure:
    unit = "s" if "latency" in name else "tokens/s"
    found = ComparedFigure(name, unit, "higher", b, b, ratio, "same", None, 0.5, 0.03, doubtful=False)
    return replace(found, **changes)


def comparison(*rows: ComparedFigure) -> Comparison:
    side = Side(("r",), "ok", (), "e", "m", "w", {})
    return Comparison(
        "1.1", "0", side, side, (), (), 5, 0.02, SPEED, rows, (), None, "it was not asked for", ()
    )  # fmt: skip


SURE = row(SPEED, Estimate(1.0, 0.99, 1.01), Estimate(100.0, 99.0, 101.0))
SLOW = row(SPEED, Estimate(0.9, 0.89, 0.91), Estimate(90.0, 89.0, 91.0))
OPEN = row(SPEED, Estimate(0.97, 0.95, 0.99), Estimate(97.0, 95.0, 99.0))
LATE = row(TAIL, Estimate(1.2, 1.1, 1.3), Estimate(0.06, 0.055, 0.065))
RULES = rules_of([f"{SPEED} < 0.97 * baseline"], False, False)


def outcome_of(rules: Rules, *rows: ComparedFigure) -> tuple[str, int]:
    found = judge(comparison(*rows), rules)
    return found.outcome, EXIT[found.outcome]


def test_a_gate_passes_fails_and_cannot_tell_with_codes_of_their_own() -> None:
    assert outcome_of(RULES, SURE) == ("passed", EXIT_OK)
    assert outcome_of(RULES, SLOW) == ("failed", EXIT_WORSE)
    assert outcome_of(RULES, OPEN) == ("cannot tell", EXIT_UNDECIDED)
    assert outcome_of(replace(RULES, undecided=True), OPEN) == ("passed", EXIT_OK)
    assert outcome_of(replace(RULES, undecided=True), SLOW) == ("failed", EXIT_WORSE)


def test_a_limit_of_its_own_unit_is_held_against_b() -> None:
    assert outcome_of(rules_of(["itl.p99 > 50 ms"], False, False), SURE, LATE) == ("failed", EXIT_WORSE)
    assert outcome_of(rules_of(["itl.p99 > 70 ms"], False, False), SURE, LATE) == ("passed", EXIT_OK)
    assert outcome_of(rules_of(["itl.p99 > 60 ms"], False, False), SURE, LATE) == ("cannot tell", EXIT_UNDECIDED)


def test_one_failure_outweighs_what_cannot_be_told() -> None:
    rules = rules_of([f"{SPEED} < 0.97 * baseline", "itl.p99 > 50 ms"], False, False)
    assert outcome_of(rules, OPEN, LATE) == ("failed", EXIT_WORSE)
    assert outcome_of(rules, SURE, LATE) == ("failed", EXIT_WORSE)


def test_a_suspect_side_cannot_pass_silently() -> None:
    doubtful = replace(SURE, doubtful=True)
    assert outcome_of(RULES, doubtful) == ("cannot tell", EXIT_UNDECIDED)
    assert outcome_of(replace(RULES, undecided=True), doubtful) == ("cannot tell", EXIT_UNDECIDED)
    allowed = judge(comparison(doubtful), replace(RULES, suspect=True))
    [one] = allowed.conditions
    assert (allowed.outcome, one.outcome, one.waived) == ("passed", "cannot tell", True)
    assert one.reason is not None
    assert "suspect" in one.reason
    assert outcome_of(replace(RULES, suspect=True), replace(SLOW, doubtful=True)) == ("failed", EXIT_WORSE)


def test_undecided_and_suspect_takes_both_permissions() -> None:
    both = replace(OPEN, doubtful=True)
    assert outcome_of(replace(RULES, undecided=True), both)[0] == "cannot tell"
    assert outcome_of(replace(RULES, suspect=True), both)[0] == "cannot tell"
    assert outcome_of(replace(RULES, undecided=True, suspect=True), both)[0] == "passed"


def test_a_figure_that_a_side_lacks_never_passes() -> None:
    rules = rules_of(["itl.p99 > 50 ms"], True, True)
    found = judge(comparison(SURE), rules)
    assert (found.outcome, found.conditions[0].value) == ("cannot tell", None)
    assert found.conditions[0].reason == "it is unknown on at least one side"


@pytest.mark.parametrize("text", ["itl.p99 > 1e400", "output_tokens_per_s < 1e999 * baseline", "itl.p99 > 1e19 s"])
def test_a_threshold_that_is_infinite_is_none(text: str) -> None:
    with pytest.raises(Refused, match="larger than any metric"):
        parse(text)


def test_noise_as_large_as_the_metric_makes_no_condition() -> None:
    with pytest.raises(Refused, match="no run fails"):
        default_condition(SPEED, 1.99)
    assert default_condition(TAIL, 1.99).limit == pytest.approx(2.99)
