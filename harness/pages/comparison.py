"""The page of a comparison: verdict, what differs, the ratios with intervals, and where the difference comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import NONE, assignments, ends, number, share
from innerloop.harness.pages import specs
from innerloop.harness.pages.distributions import ecdf, values_of
from innerloop.harness.pages.parts import (
    Callout,
    Chart,
    Command,
    Facts,
    Label,
    Page,
    Part,
    Row,
    Section,
    Series,
    Table,
    Tile,
    Tone,
    filled,
)
from innerloop.harness.pages.source import Source
from innerloop.harness.pages.thin import plain
from innerloop.harness.pages.why import why
from innerloop.harness.report import comparison as texts
from innerloop.harness.result.figures import TOO_FEW
from innerloop.harness.schema.comparison import Comparison, Estimate, Side

TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "same": "", "undecided": "warn"}
LIKE = {"": 6, "good": 2, "bad": 1, "warn": 4}  # colours of the ratios
MOST_DIFFERENCES = 60
SAID = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "end to end"}
SET = ("settings.", "engine_args.", "settings_given.", "workload_args.", "model_args.")  # what somebody can set


Sides = Mapping[str, Sequence[Source]]


def comparison_page(found: Comparison, name: str, commands: Sequence[str] = (), sides: Sides | None = None) -> Page:
    """`commands` repeat it; `sides` are the runs of A and of B, for what only their records show."""
    first = found.figures[0]
    sections = [figures(found)]
    if sides is not None and (curves := latencies(sides)):
        sections.append(Section("distributions", "Latency distributions", curves))
    if found.why is not None:
        sections.append(why(found.why))
    elif found.why_not:
        said = Callout("", f"Where the difference comes from: unknown, because {found.why_not}")
        sections.append(Section("why", "Where the difference comes from", [said]))
    sections.append(differences(found))
    if commands:
        sections.append(Section("repeat", "How to repeat this", [Command([as_called(one) for one in commands])]))
    suspect = "suspect" in (found.a.status, found.b.status)
    return Page(
        name=name,
        title=title(found),
        subtitle=f"comparison · {number(found.trials)} trial{'s' if found.trials > 1 else ''}, each runs A and B",
        status="suspect" if suspect else texts.verdict(first, found.margin),
        tone="warn" if suspect else TONES[first.verdict],
        verdict=verdict(found),
        tiles=[*tiles(found)],
        sections=sections,
        aside=[*aside(found)],
    )


def latencies(sides: Sides) -> list[Part]:
    """The latencies of both sides as curves, of all their runs together; none where a side has no records."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for side, runs in sides.items():
        for run in runs:
            for what, values in values_of(run).items():
                found.setdefault(what, {}).setdefault(side, []).append(values)
    series = (Series("A", 0), Series("B", 1))
    return [
        ecdf(
            {side: np.concatenate(parts) for side, parts in of.items()},
            f"latency-{term}",
            series,
            Label(f"{what} of A and B", term),
        )
        for what, term in (("TTFT", "ttft"), ("ITL", "itl"))
        if len(of := found.get(what, {})) == len(series)
    ]


def title(found: Comparison) -> str:
    a, b = found.a, found.b
    if (a.engine, a.model, a.workload) == (b.engine, b.model, b.workload):
        changed = {one.name.rpartition(".")[2]: one for one in found.differences if one.name.startswith(SET)}
        words = ", ".join(
            f"{name} {texts.value(one.a)} → {texts.value(one.b)}" for name, one in list(changed.items())[:3]
        )
        return f"{a.engine} · {a.model} · {a.workload}" + (f": {words}" if words else "")
    return f"{a.engine} · {a.model} · {a.workload} vs. {b.engine} · {b.model} · {b.workload}"


def verdict(found: Comparison) -> str:
    """Whether B is faster, by how much, and how sure that is."""
    one = found.figures[0]
    ratio = one.ratio
    if ratio.value is None:
        why = "one of them is missing" if one.reason is None else f"{one.reason}; {TOO_FEW}"
        return f"B's {words_of(one.name)} cannot be compared with A's: {why}."
    known = f" (95 % interval of B / A: {bounds(ratio)})" if bounds(ratio) != NONE else ""
    change, direction = f"{abs(ratio.value - 1) * 100:.1f} %", "lower" if ratio.value < 1 else "higher"
    both = f"{texts.figure(one, one.b)} vs. {texts.figure(one, one.a)}"
    at = f"B's {words_of(one.name)} is {change} {direction}: {both}"
    unit = f" {one.unit}" if one.unit and one.unit != "s" else ""
    sentence = {
        "better": f"B is {texts.verdict(one, found.margin)}.",
        "worse": f"B is {texts.verdict(one, found.margin)}.",
        "same": f"That is within the margin of {share(found.margin)}, so it is ignored.",
        "undecided": "Undecided: these runs do not show whether that would repeat.",
    }
    return f"{at}{unit}{known}. {sentence[one.verdict]}"


def bounds(of: Estimate) -> str:
    return ends(of.low, of.high, texts.ratio, " – ")


def tiles(found: Comparison) -> Iterator[Tile]:
    for row in found.figures[:5]:
        change = NONE if row.ratio.value is None else f"{(row.ratio.value - 1) * 100:+.1f} %"
        detail = f"{texts.figure(row, row.a)} → {texts.figure(row, row.b)}"
        yield Tile(Label(words_of(row.name)), change, detail)


def words_of(name: str) -> str:
    """A figure's name as a person says it: "TTFT p50", "output tokens/s"."""
    words = texts.short_name(name).replace("_per_s", "/s").replace("step_s.wall", "step time")
    return " ".join(SAID.get(word, word) for word in words.replace("_", " ").replace(".", " ").split())


def aside(found: Comparison) -> Iterator[Part]:
    for line in found.waived:
        yield Callout("warn", f"{line}: compared anyway, as requested")
    doubts = [f"{name}: {line}" for name, side in (("A", found.a), ("B", found.b)) for line in texts.doubts(side)]
    if doubts:
        yield Callout("warn", "Some figures are doubtful", doubts)
    yield from (Callout("", note) for note in found.notes)
    yield Facts([(Label(name), described(side)) for name, side in (("A", found.a), ("B", found.b))])


def described(side: Side) -> str:
    runs = f"{len(side.runs)} run{'s' if len(side.runs) > 1 else ''}, the first {side.runs[0]}"
    labels = assignments(side.label)
    return " · ".join(word for word in (side.engine, side.model, side.workload, labels, runs) if word)


def figures(found: Comparison) -> Section:
    rows = [
        Row(
            Label(words_of(row.name) + ("\u00a0*" if row.doubtful else "")),
            [
                texts.figure(row, row.a),
                texts.figure(row, row.b),
                NONE if row.ratio.value is None else f"{row.ratio.value:.3f}",
                bounds(row.ratio),
                NONE if row.p is None else f"{row.p:.2g}",
                texts.verdict(row, found.margin),
            ],
            "strong" if row.name == found.metric else "",
            TONES[row.verdict],
        )
        for row in found.figures
    ]
    columns = [
        Label("Figure"),
        Label("A"),
        Label("B"),
        Label("B / A", "ratio"),
        Label("95 %", "interval"),
        Label("p", "p"),
    ]
    notes = [f"Differences up to {share(found.margin)} are ignored."]
    if any(row.p is not None for row in found.figures[1:]):
        notes.append("p is adjusted for the number of figures (Holm); intervals and verdicts are each figure's own.")
    notes += [f"{line}." for line in texts.too_few(found)]
    if any(row.doubtful for row in found.figures):
        notes.append("*: doubtful, because a run is suspect.")
    if found.figures[0].smallest_visible is not None:
        notes.append(f"These trials could detect a difference of {share(found.figures[0].smallest_visible)}.")
    if found.trials_needed is not None:
        notes.append(f"About {number(found.trials_needed)} trials give an interval of ±1 %.")
    table = filled(Table([*columns, Label("B is", "verdict")], rows, note=" ".join(notes)))
    return Section("figures", "B vs. A", [ratios(found), table])


def ratios(found: Comparison) -> Chart:
    """Each figure's ratio with its interval, and the margin within which a difference counts as none."""
    known = [row for row in found.figures if row.ratio.value is not None]
    columns = {
        "figure": [words_of(row.name) for row in known],
        "ratio": plain([change(row.ratio.value) for row in known]),
        "low": plain([change(row.ratio.low) for row in known]),
        "high": plain([change(row.ratio.high) for row in known]),
        "series": [texts.verdict(row, found.margin).partition(",")[0] for row in known],
        "text": [f"{row.ratio.value:.3f} ({bounds(row.ratio)})" for row in known],
    }
    series = tuple(
        Series(name, LIKE[TONES[row.verdict]])
        for name, row in {one: row for one, row in zip(columns["series"], known, strict=True)}.items()
    )
    y = {"field": "figure", "type": "nominal", "sort": None, "axis": specs.axis(None)}
    x = specs.quantitative("ratio", None, None, {"zero": False}) | {
        "axis": specs.across(
            "change from A to B, %", "(datum.value ? format(datum.value, '+,.3~r') : '0') + ' %'", grid=True
        )
    }
    color, tips = specs.colour(series), specs.tips(figure="figure", text="B / A", series="B is")
    band = {
        "data": {"name": "margin"},
        "mark": {"type": "rect", "color": "@band"},
        "encoding": {"x": {"field": "from", "type": "quantitative"}, "x2": {"field": "to"}},
    }
    zero = {
        "data": {"name": "margin"},
        "mark": {"type": "rule", "color": "@muted"},
        "encoding": {"x": {"field": "zero", "type": "quantitative"}},
    }
    span = {
        "transform": [specs.SHOWN, {"filter": "datum.low != null"}],
        "mark": {"type": "rule", "strokeWidth": 2.4},
        "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": color},
    }
    dot = {
        "transform": [specs.SHOWN],
        "mark": {"type": "point", "size": 70, "tooltip": True},
        "encoding": {
            "y": y,
            "x": x,
            "color": color,
            "tooltip": tips,
        },
    }
    margin, bounded = found.margin * 100, any(row.ratio.low is not None for row in known)
    return Chart(
        "ratios",
        Label(f"Change from A to B{', with 95 % intervals' if bounded else ''}", "ratio"),
        specs.layered(band, zero, *([span] if bounded else []), dot, encoding={}, series=series),
        columns,
        {"figure": "figure", "ratio": "change, %", "low": "low, %", "high": "high, %", "series": "verdict"},
        "Change of each figure from A to B with its interval",
        others={"margin": {"from": plain([-margin]), "to": plain([margin]), "zero": [0.0]}},
        series=series,
        height=36 + 24 * len(known),
        note="The shaded band is the margin.",
    )


def change(ratio: float | None) -> float:
    return float("nan") if ratio is None else (ratio - 1) * 100


def differences(found: Comparison) -> Section:
    rows = [
        Row(Label(one.name), [texts.value(one.a), texts.value(one.b)]) for one in found.differences[:MOST_DIFFERENCES]
    ]
    if not rows:
        return Section("differences", "What differs", [Callout("", "No recorded differences.")])
    left = len(found.differences) - len(rows)
    note = f"And {left} more; innerloop compare --json lists them all." if left > 0 else ""
    return Section("differences", "What differs", [Table([Label(""), Label("A"), Label("B")], rows, left=3, note=note)])
