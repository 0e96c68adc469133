"""Where the difference between A and B is, as bars."""

from __future__ import annotations

from collections.abc import Mapping

from innerloop.harness.cli.words import ends, number, seconds
from innerloop.harness.pages import specs
from innerloop.harness.pages.parts import Chart, Label, Part, Row, Section, Series, Table
from innerloop.harness.pages.summary import capital
from innerloop.harness.pages.thin import plain
from innerloop.harness.report import comparison as texts
from innerloop.harness.report.comparison import COEFFICIENTS
from innerloop.harness.report.steps import short
from innerloop.harness.schema.comparison import Decomposition, Estimate

PHASES = {"rest": "other host time", "gap": "between steps"}


def why(found: Decomposition) -> Section:
    """The way from A to B, then the cost in both of its divisions, then the steps that changed most."""
    parts: list[Part] = [bridge(found)]
    parts += [
        chart
        for chart in (
            divided("by-phase", "Cost of the same steps, by phase", found.cost_by_phase_s, PHASES),
            divided("by-content", "Cost of the same steps, by composition", found.cost_by_coefficient_s, COEFFICIENTS),
            divided("mix", "Mix, by composition", found.mix_by_coefficient_s or {}, COEFFICIENTS),
        )
        if chart is not None
    ]
    if found.changed:
        parts.append(changed(found))
    intro = (
        "Step time per output token, from A to B: mix (different steps ran), cost (the same steps took more or less "
        "time)."
    )
    return Section("why", "Where the difference comes from", parts, f"{intro} {capital(texts.held(found))}.")


def bridge(found: Decomposition) -> Chart:
    """From A to B: a bar for each part, beginning where the one before ended."""
    at = found.a_s.value or 0.0
    rows: list[tuple[str, str, float, float, str]] = [("A", "total", 0.0, at, interval(found.a_s))]
    for name, part in (
        ("mix: different steps", found.mix_s),
        ("cost: same steps", found.cost_s),
        ("not comparable", found.unmatched_s),
    ):
        added = part.value or 0.0
        rows.append((name, "slower" if added > 0 else "faster", at, at + added, interval(part)))
        at += added
    rows.append(("B", "total", 0.0, found.b_s.value or 0.0, interval(found.b_s)))
    series = (Series("total", 6), Series("slower", 1), Series("faster", 2))
    columns = {
        "part": [name for name, *_ in rows],
        "series": [kind for _, kind, *_ in rows],
        "from": plain([low for _, _, low, _, _ in rows]),
        "to": plain([high for _, _, _, high, _ in rows]),
        "added": plain([high - low for _, _, low, high, _ in rows]),
        "interval": [words for *_, words in rows],
    }
    most = max((high for _, _, _, high, _ in rows), default=1.0)
    y = {"field": "part", "type": "nominal", "sort": None, "axis": specs.axis(None)}
    x = specs.quantitative("from", None, None, specs.with_room(most)) | {
        "axis": specs.across("step time per output token", specs.DURATION_LABELS, grid=True)
    }
    bars = {
        "mark": {"type": "bar", "tooltip": True, "height": {"band": 0.66}},
        "encoding": {
            "x2": {"field": "to"},
            "color": specs.colour(series),
            "tooltip": specs.tips(part="part", added_text="time", interval="95 % interval"),
        },
    }
    label = {
        "mark": {"type": "text", "align": "left", "dx": 6},
        "encoding": {"x": {**x, "field": "end"}, "text": {"field": "shown", "type": "nominal"}},
    }
    signed = f"(datum.series == 'slower' ? '+' : '') + {specs.DURATION.format('datum.added')}"
    spec = specs.layered(bars, label, encoding={"y": y, "x": x}) | {
        "transform": [
            {"calculate": "max(datum.from, datum.to)", "as": "end"},
            {"calculate": signed, "as": "shown"},
            {"calculate": signed, "as": "added_text"},
        ]
    }
    return Chart(
        "a-to-b",
        Label("From A to B", "cost"),
        spec,
        columns,
        {"part": "part", "from": "from, s", "to": "to, s", "added": "seconds", "interval": "95 % interval"},
        "Step time per output token of A, what changed, and B",
        height=190,
    )


def interval(of: Estimate) -> str:
    return ends(of.low, of.high, seconds, " – ")


def divided(name: str, title: str, parts: Mapping[str, Estimate], words: Mapping[str, str]) -> Chart | None:
    """A bar for each part with its interval; None where all are nothing."""
    known = {words.get(key, key): part for key, part in parts.items() if part.value}
    if not known:
        return None
    columns = {
        "part": list(known),
        "series": ["slower" if (part.value or 0) > 0 else "faster" for part in known.values()],
        "v": plain([part.value for part in known.values()]),
        "low": plain([part.low for part in known.values()]),
        "high": plain([part.high for part in known.values()]),
        "interval": [interval(part) for part in known.values()],
    }
    series = (Series("slower", 1), Series("faster", 2))
    bounded = any(part.low is not None for part in known.values())
    y = {"field": "part", "type": "nominal", "sort": None, "axis": specs.axis(None)}
    x = specs.quantitative("v", None, None) | {
        "axis": specs.across("B - A per output token", specs.DURATION_LABELS, grid=True)
    }
    bars = {
        "transform": [specs.duration_text("v", "v_text")],
        "mark": {"type": "bar", "tooltip": True, "height": {"band": 0.6}, "opacity": 0.85},
        "encoding": {
            "x": x,
            "color": specs.colour(series),
            "tooltip": specs.tips(part="part", v_text="B - A", interval="95 % interval"),
        },
    }
    span = {
        "transform": [{"filter": "datum.low != null"}],
        "mark": {"type": "rule", "color": "@ink", "strokeWidth": 1.5},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
    }
    return Chart(
        name,
        Label(title, "mix_by" if name == "mix" else "cost"),
        specs.layered(bars, *([span] if bounded else []), encoding={"y": y}),
        columns,
        {"part": "part", "v": "B - A, s per output token", "low": "low, s", "high": "high, s"},
        f"{title}, with 95 % intervals",
        height=34 + 24 * len(known),
        note="Lines are 95 % intervals." if bounded else "",
    )


def changed(found: Decomposition) -> Table:
    rows = [
        Row(
            Label(f"{short(row.prefill_positions)} prefill, {short(row.decode_positions)} decode"),
            [
                short(row.context_tokens),
                number(row.steps_per_token_a * 1000),
                number(row.steps_per_token_b * 1000),
                seconds(row.cost_a_s),
                seconds(row.cost_b_s),
                texts.plus(row.added_s),
            ],
        )
        for row in found.changed
    ]
    names = ("context", "A: steps", "B: steps", "A: cost", "B: cost", "added")
    return Table([Label("Steps that changed most"), *map(Label, names)], rows, note="Steps per 1 000 output tokens.")
