"""The conditions of a gate: `output_tokens_per_s < 0.97 * baseline`, `latency_s.itl.p99 > 50 ms`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from innerloop.harness import __version__
from innerloop.harness.cli.errors import EXIT_OK, EXIT_UNDECIDED, EXIT_WORSE, Refused
from innerloop.harness.experiments.comparison import metric_named
from innerloop.harness.result.figures import FIGURES, TOO_FEW
from innerloop.harness.schema.comparison import ComparedFigure, Comparison, Estimate
from innerloop.harness.schema.gate import DOUBT, VERSION, CheckedCondition, Gate, Outcome

EXIT: dict[Outcome, int] = {"passed": EXIT_OK, "failed": EXIT_WORSE, "cannot tell": EXIT_UNDECIDED}
NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"
CONDITION = re.compile(r"([A-Za-z][\w.]*)\s*([<>])=?\s*(.+)")
RELATIVE = (
    re.compile(rf"{NUMBER}\s*(%?)\s*(?:\*|of)\s*baseline"),
    re.compile(rf"baseline\s*\*\s*{NUMBER}\s*(%?)"),
)
ABSOLUTE = re.compile(rf"{NUMBER}\s*(ms|us|µs|s|)")
SECONDS = {"s": 1.0, "": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
LARGEST = 1e18  # what is written as a larger number may be infinite, which no document holds
FORM = "use METRIC < 0.97 * baseline, or METRIC > 50 ms"


@dataclass(frozen=True, slots=True)
class Condition:
    """What must not be so. limit: in the figure's unit or, where `relative`, as a part of the baseline."""

    text: str
    figure: str
    fails: Literal["below", "above"]
    limit: float
    relative: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """What a gate asks for. undecided, suspect: what cannot be told, or is doubtful, passes, and is named."""

    conditions: tuple[Condition, ...]
    undecided: bool = False
    suspect: bool = False


def parse(text: str) -> Condition:
    """
    Raises:
        Refused: it is no condition, or there is no such figure.
    """
    found = CONDITION.fullmatch(text.strip())
    if found is None:
        raise Refused(f"--fail-if: {text!r} is not a condition; {FORM}")
    figure = metric_named(found[1], "--fail-if")
    limit, relative = _limit(found[3].strip(), figure, text)
    return Condition(text.strip(), figure, "below" if found[2] == "<" else "above", limit, relative)


def _limit(text: str, figure: str, whole: str) -> tuple[float, bool]:
    if text == "baseline":
        return 1.0, True
    for pattern in RELATIVE:
        if found := pattern.fullmatch(text):
            return _finite(found[1], text) / (100 if found[2] else 1), True
    found = ABSOLUTE.fullmatch(text)
    if found is None:
        raise Refused(f"--fail-if: {text!r} is not a valid threshold; {FORM}")
    unit = next(one.unit for one in FIGURES if one.name == figure)
    if found[2] and unit != "s":
        raise Refused(f"--fail-if: {whole!r}: {figure} is in {unit}, not in seconds")
    return _finite(found[1], text) * SECONDS[found[2]], False


def _finite(number: str, text: str) -> float:
    if float(number) > LARGEST:
        raise Refused(f"--fail-if: {text!r} is not a valid threshold: it is larger than any metric")
    return float(number)


def default_condition(metric: str, margin: float) -> Condition:
    """That the figure asked about is worse by more than the margin.

    Raises:
        Refused: it would have to fall below 0 for that.
    """
    better = next(one.better for one in FIGURES if one.name == metric)
    sign, factor = ("<", 1 - margin) if better == "higher" else (">", 1 + margin)
    if factor <= 0:
        raise Refused(
            f"with a margin of {margin:.3g} of {metric}, which is what innerloop noise measured here, no run fails",
            "give --margin or --fail-if, or measure the noise again on a machine with nothing else to do",
        )
    return parse(f"{metric} {sign} {factor:.6g} * baseline")


def judge(found: Comparison, rules: Rules) -> Gate:
    """The gate's document: whether the comparison meets every condition."""
    rows = {row.name: row for row in found.figures}
    checked = tuple(_checked(one, rows.get(one.figure), rules) for one in rules.conditions)
    open_ = [one for one in checked if one.outcome == "cannot tell" and not one.waived]
    outcome: Outcome = "cannot tell" if open_ else "passed"
    if any(one.outcome == "failed" for one in checked):
        outcome = "failed"
    return Gate(VERSION, __version__, outcome, checked, found)


def _checked(condition: Condition, row: ComparedFigure | None, rules: Rules) -> CheckedCondition:
    value: Estimate | None = None
    reason: str | None = "it is unknown on at least one side"
    outcome: Outcome = "cannot tell"
    waived = False
    if row is not None:
        value = row.ratio if condition.relative else row.b
        outcome, reason = lies(value, condition)
        if value.value is None and row.reason is not None:
            reason = f"{row.reason}; {TOO_FEW}"
        waived = outcome == "cannot tell" and rules.undecided
        if row.doubtful and outcome != "failed":
            waived = rules.suspect and (outcome == "passed" or waived)
            outcome, reason = "cannot tell", DOUBT if reason is None else f"{reason}; {DOUBT}"
    return CheckedCondition(
        condition.text, condition.figure, condition.fails, condition.limit, condition.relative, value, outcome, reason,
        waived,
    )  # fmt: skip


def lies(value: Estimate, condition: Condition) -> tuple[Outcome, str | None]:
    """Whether the interval lies wholly on one side of the limit, and if not, what is the matter."""
    if value.low is None or value.high is None:
        return "cannot tell", "it has no interval: that needs at least three runs per side"
    low, high, limit = value.low, value.high, condition.limit
    if condition.fails == "above":
        low, high, limit = -high, -low, -limit
    if high < limit:
        return "failed", None
    return ("passed", None) if low >= limit else ("cannot tell", "the interval contains the threshold")


def rules_of(conditions: Sequence[str], undecided: bool, suspect: bool) -> Rules:
    """
    Raises:
        Refused: as `parse`.
    """
    return Rules(tuple(map(parse, conditions)), undecided, suspect)
