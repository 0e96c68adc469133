"""A comparison and its gate as GitHub's Markdown, for the summary of a job or a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from innerloop.harness.cli.words import ends, seconds, visible
from innerloop.harness.report import comparison as texts
from innerloop.harness.report import gate as gates
from innerloop.harness.schema.comparison import Comparison, Side
from innerloop.harness.schema.gate import Gate

MOST_DIFFERENCES, MOST_DOUBTS = 20, 10
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def markdown(found: Comparison, gate: Gate | None) -> str:
    """The whole text; what somebody else wrote in it is escaped."""
    return "\n".join(lines(found, gate)) + "\n"


def lines(found: Comparison, gate: Gate | None) -> Iterator[str]:
    if gate is None:
        yield "## innerloop compare"
    else:
        yield f"## innerloop gate: {gates.word(gate.outcome)}"
        rows = [
            [f"`{one.text}`".replace("|", "\\|"), gates.value(one), gates.interval(one), gates.outcome(one)]
            for one in gate.conditions
        ]
        yield from table(["fails if", "found", "95 %", "outcome"], rows)
        yield from (f"- {escaped(one.figure)}: {escaped(one.reason)}" for one in gate.conditions if one.reason)
    yield ""
    for name, side in (("A", found.a), ("B", found.b)):
        yield f"- **{name}**: {described(side)}"
    warnings = [*found.waived, *found.notes, *doubts(found)]
    yield from (f"- **Note**: {escaped(line)}" for line in warnings)
    rows = [
        [
            escaped(texts.short_name(row.name)) + (" \\*" if row.doubtful else ""),
            texts.figure(row, row.a),
            texts.figure(row, row.b),
            texts.ratio(row.ratio.value),
            ends(row.ratio.low, row.ratio.high, texts.ratio),
            texts.verdict(row, found.margin),
        ]
        for row in found.figures
    ]
    yield from table(["metric", "A", "B", "B / A", "95 %", "verdict"], rows)
    yield from (f"{escaped(line)}  " for line in texts.too_few(found))
    if any(row.doubtful for row in found.figures):
        yield "\\*: doubtful, because a run is suspect"
    if found.differences:
        rows = [
            [escaped(one.name), escaped(texts.value(one.a)), escaped(texts.value(one.b))] for one in found.differences
        ]
        yield from folded("What differs", table(["", "A", "B"], rows[:MOST_DIFFERENCES]), len(rows) - MOST_DIFFERENCES)
    if found.why is not None:
        yield from folded("Where the difference comes from", why(found))


def described(side: Side) -> str:
    words = " · ".join(escaped(word) for word in (side.engine, side.model, side.workload) if word)
    runs = f"{len(side.runs)} run{'s' if len(side.runs) > 1 else ''}"
    return f"{words}, {runs}" + (", **suspect**" if side.status != "ok" else "")


def doubts(found: Comparison) -> Iterator[str]:
    sides = ("A", found.a), ("B", found.b)
    lines = [f"{name} is suspect, {line}" for name, side in sides for line in texts.doubts(side)]
    yield from lines[:MOST_DOUBTS]
    if len(lines) > MOST_DOUBTS:
        yield f"and {len(lines) - MOST_DOUBTS} more doubts"


def why(found: Comparison) -> Iterator[str]:
    assert found.why is not None
    parts = {
        "A": found.why.a_s,
        "mix: different steps": found.why.mix_s,
        "cost: same steps": found.why.cost_s,
        **{f"cost: {name}": part for name, part in found.why.cost_by_phase_s.items() if part.value},
        "not comparable": found.why.unmatched_s,
        "B": found.why.b_s,
    }
    rows = [
        [name, seconds(part.value) if name in ("A", "B") else texts.plus(part.value), texts.interval(part)]
        for name, part in parts.items()
    ]
    yield from table(["step time per output token", "", "95 %"], rows)


def folded(title: str, inner: Iterator[str], left: int = 0) -> Iterator[str]:
    yield from ("", f"<details><summary>{title}</summary>")
    yield from inner
    if left > 0:
        yield f"and {left} more"
    yield from ("", "</details>")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(header)} |"
    yield f"|{'|'.join(['---'] * len(header))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def escaped(text: str) -> str:
    """What somebody else wrote, so that none of it is markup or breaks a line."""
    return SPECIAL.sub(r"\\\1", visible(text))
