"""A gate as a person reads it: each condition, what was found, and its outcome."""

from __future__ import annotations

from functools import partial

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, ends, number, seconds, visible
from innerloop.harness.report.tables import section, table
from innerloop.harness.result.figures import FIGURES, TOO_FEW
from innerloop.harness.schema.gate import DOUBT, CheckedCondition, Gate, Outcome

STYLES = {"passed": "green", "failed": "red", "cannot tell": "yellow"}
WORDS = {"cannot tell": "undecided"}  # as in the verdicts of a comparison
UNDECIDED = "an undecided condition counts as failed: more trials narrow the intervals; --allow-undecided lets it pass"
UNKNOWN = "an undecided condition counts as failed; --allow-undecided lets it pass"
SUSPECT = "a doubtful condition counts as failed; --allow-suspect lets it pass"


def print_gate(gate: Gate, console: Console | None = None) -> None:
    (console or PlainConsole()).print(section(f"Gate: {word(gate.outcome).upper()}", conditions(gate)))


def conditions(gate: Gate) -> RenderableType:
    out = table("fails if", "found", "95 %", "outcome", gap=1)
    out.columns[0].no_wrap = False
    out.columns[-1].justify, out.columns[-1].no_wrap = "left", False
    for one in gate.conditions:
        out.add_row(visible(one.text), value(one), interval(one), Text(outcome(one), style=STYLES[one.outcome]))
    lines: list[RenderableType] = [out]
    reasons = dict.fromkeys(f"{one.figure}: {one.reason}" for one in gate.conditions if one.reason)
    lines += [Text(f"! {line}", style="yellow") for line in reasons]
    if gate.outcome == "cannot tell":
        whys = [one.reason or "" for one in gate.conditions if one.outcome == "cannot tell" and not one.waived]
        if any(not why.startswith(DOUBT) and TOO_FEW not in why for why in whys):
            lines.append(Text(UNDECIDED, style="dim"))
        elif any(TOO_FEW in why for why in whys):
            lines.append(Text(UNKNOWN, style="dim"))
        if any(DOUBT in why for why in whys):
            lines.append(Text(SUSPECT, style="dim"))
    return Group(*lines)


def word(outcome: Outcome) -> str:
    return WORDS.get(outcome, outcome)


def outcome(one: CheckedCondition) -> str:
    return f"{word(one.outcome)}, allowed" if one.waived else word(one.outcome)


def value(one: CheckedCondition) -> str:
    """What was found: a fraction of the baseline, or the figure itself."""
    return NONE if one.value is None else shown(one, one.value.value)


def interval(one: CheckedCondition) -> str:
    return NONE if one.value is None else ends(one.value.low, one.value.high, partial(shown, one))


def shown(one: CheckedCondition, of: float | None) -> str:
    if one.relative:
        return NONE if of is None else f"{of:.3f}"
    unit = next(row.unit for row in FIGURES if row.name == one.figure)
    return seconds(of) if unit == "s" else number(of)
