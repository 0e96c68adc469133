"""The page of several layers: what each one adds to the time of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import NONE, number, seconds, share
from innerloop.harness.pages import specs
from innerloop.harness.pages.parts import (
    Callout,
    Chart,
    Command,
    Label,
    Page,
    Part,
    Row,
    Section,
    Series,
    Table,
    Tile,
    filled,
)
from innerloop.harness.pages.summary import TONES, capital
from innerloop.harness.pages.thin import plain
from innerloop.harness.report.layers import TAKEN, WHAT, by_chance, doubts, remarks, rung_s, signed
from innerloop.harness.schema.waterfall import LayerRow, Waterfall

SERIES = (
    Series("machine's bound", 2),
    Series("kernels", 4),
    Series("layers", 0),
    Series("faster than the layer below", 6),
)
KINDS = {"bound": 0, "kernels": 1, "layer": 2}


def layers_page(found: Waterfall, name: str, commands: Sequence[str] = ()) -> Page:
    """`commands` repeat it."""
    known = [rung for rung in found.rungs if rung.s_per_output_token is not None]
    engine = " ".join(word for word in (found.engine.name, found.engine.version) if word)
    trials = "1 trial" if found.trials == 1 else f"{found.trials} trials"
    sections = [Section("layers", "What each layer adds", [*parts(found, known)]), latencies(known), runs(found)]
    if commands:
        sections.append(Section("repeat", "How to repeat this", [Command([as_called(one) for one in commands])]))
    return Page(
        name=name,
        title=" · ".join(word for word in (engine, found.model, found.workload) if word),
        subtitle=f"layers {', '.join(found.layers)} · the same requests on each, {trials} · {found.device or ''}",
        status=found.status,
        tone=TONES.get(found.status, ""),
        verdict=verdict(found, known),
        tiles=[*tiles(known, found.tokens_per_step is not None)],
        sections=sections,
        aside=[*aside(found)],
    )


def verdict(found: Waterfall, known: Sequence[LayerRow]) -> str:
    """Which layer adds most, and what is left to chance."""
    if not known:
        return "No layer has figures."
    unit = "step" if found.tokens_per_step is not None else "output token"
    spent, _ = rung_s(known[-1], found.tokens_per_step is not None)
    layers = [rung for rung in known[1:] if rung.kind == "layer"]
    text = f"A {unit} takes {seconds(spent)} through {known[-1].name}."
    if layers:
        most = max(layers, key=lambda rung: rung_s(rung, found.tokens_per_step is not None)[1] or 0.0)
        added = rung_s(most, found.tokens_per_step is not None)[1]
        chance = ", which may be due to chance" if most in list(by_chance(found)) else ""
        text += f" Of the layers, {most.name} adds the most: {signed(added)}{chance}."
    return text


def tiles(known: Sequence[LayerRow], by_step: bool) -> Iterator[Tile]:
    for rung in known:
        if rung.kind == "layer":
            spent = f"{seconds(rung_s(rung, by_step)[0])} per {'step' if by_step else 'token'}"
            rate = NONE if rung.tokens_per_s is None else number(round(rung.tokens_per_s))
            yield Tile(Label(f"{rung.name}, tokens/s", "token_time"), rate, spent)


def aside(found: Waterfall) -> Iterator[Part]:
    if found.paced_by_load:
        yield Callout(
            "warn", "The engine waited for requests: the load set the pace, so the layers' speeds mean little."
        )
    for rung in found.rungs:
        if rung.reason:
            yield Callout("bad" if rung.kind == "layer" else "", f"{rung.name}: {rung.reason}")
    if lines := [line for rung in found.rungs for line in doubts(rung)]:
        yield Callout("warn", "Some figures are doubtful", lines)


def parts(found: Waterfall, known: Sequence[LayerRow]) -> Iterator[Part]:
    by_step = found.tokens_per_step is not None
    if known:
        yield waterfall(found, known, by_step)
    doubtful = {rung.name for rung in by_chance(found)}
    rows = []
    for rung in found.rungs:
        if rung.s_per_output_token is None:
            rows.append(Row(Label(rung.name), [NONE] * 5, "dim"))
            continue
        spent, added = rung_s(rung, by_step)
        ci = rung.ratio_to_below_ci
        cells = [
            NONE if rung.tokens_per_s is None else number(round(rung.tokens_per_s)),
            seconds(spent),
            signed(added) + (" ?" if rung.name in doubtful else ""),
            share(rung.added_share),
            NONE if ci is None else f"{ci[0]:.3f} – {ci[1]:.3f}",
        ]
        rows.append(Row(Label(WHAT.get(rung.name, rung.name)), cells, "" if rung.kind == "layer" else "dim"))
    unit = "per step" if by_step else "per token"
    columns = [
        Label("Layer"), Label("tokens/s"), Label(unit, "per_step" if by_step else "token_time"),
        Label("added", "added"), Label("of all"), Label("95 % of ratio to below", "interval"),
    ]  # fmt: skip
    elsewhere = (TAKEN, *(f"{rung.name}: {rung.reason}" for rung in found.rungs if rung.reason))  # on the page
    said = [line for line in remarks(found) if not line.startswith(elsewhere)]
    yield filled(Table(columns, rows, note=" ".join(f"{capital(line)}." for line in said)))


def waterfall(found: Waterfall, known: Sequence[LayerRow], by_step: bool) -> Chart:
    """A bar for each rung, from the time of the one below to its own."""
    doubtful = {rung.name for rung in by_chance(found)}
    columns: dict[str, list[Any]] = {"rung": [], "series": [], "from": [], "to": [], "added": [], "chance": []}
    for rung in known:
        spent, added = rung_s(rung, by_step)
        if spent is None or added is None:
            continue
        columns["rung"].append(rung.name)
        columns["series"].append(SERIES[3 if added < 0 else KINDS[rung.kind]].name)
        columns["from"] += plain([spent - added])
        columns["to"] += plain([spent])
        columns["added"] += plain([added])
        columns["chance"].append("?" if rung.name in doubtful else "")
    unit = "time per step" if by_step else "time per output token"
    y = {"field": "rung", "type": "nominal", "sort": None, "axis": specs.axis(None)}
    most = max((*columns["from"], *columns["to"]), default=1.0)
    x = specs.quantitative("from", None, None, specs.with_room(most)) | {
        "axis": specs.across(unit, specs.DURATION_LABELS, grid=True)
    }
    signed_text = f"(datum.added < 0 ? '' : '+') + {specs.DURATION.format('datum.added')} + datum.chance"
    shown = tuple(one for one in SERIES if one.name in columns["series"])
    bars = {
        "transform": [specs.SHOWN],
        "mark": {"type": "bar", "tooltip": True, "height": {"band": 0.66}},
        "encoding": {
            "x2": {"field": "to"},
            "color": specs.colour(shown),
            "tooltip": specs.tips(rung="layer", shown="added", to_text="total"),
        },
    }
    label = {
        "transform": [specs.SHOWN],
        "mark": {"type": "text", "align": "left", "dx": 6},
        "encoding": {"x": {**x, "field": "end"}, "text": {"field": "shown", "type": "nominal"}},
    }
    spec = specs.layered(bars, label, encoding={"y": y, "x": x}, series=shown) | {
        "transform": [
            {"calculate": "max(datum.from, datum.to)", "as": "end"},
            {"calculate": signed_text, "as": "shown"},
            specs.duration_text("to", "to_text"),
        ]
    }
    return Chart(
        "waterfall",
        Label("From the machine's bound to the outermost layer", "added"),
        spec,
        columns,
        {"rung": "layer", "from": "from, s", "to": "to, s", "added": "added, s", "chance": "may be chance"},
        "What each layer adds to the time of a step",
        series=shown,
        height=30 + 32 * len(known),
        note="?: may be due to chance." if doubtful else "",
    )


def latencies(known: Sequence[LayerRow]) -> Section:
    rows = []
    for rung in known:
        if rung.ttft_s is not None or rung.tpot_s is not None:
            cells = [
                seconds(None if of is None else getattr(of, point))
                for of in (rung.ttft_s, rung.tpot_s)
                for point in ("p50", "p90", "p99")
            ]
            rows.append(Row(Label(rung.name), cells))
    columns = [Label("Layer"), *(Label(f"{name} {point}", term) for name, term in (("TTFT", "ttft"), ("TPOT", "tpot"))
                                 for point in ("p50", "p90", "p99"))]  # fmt: skip
    return Section("latency", "Latency", [filled(Table(columns, rows, note="Medians over the trials."))])


def runs(found: Waterfall) -> Section:
    """The runs that this is made of."""
    rows = [
        Row(Label(run.folder), [rung.name, run.status, number(run.output_tokens_per_s)])
        for rung in found.rungs
        for run in rung.runs
    ]
    columns = [Label("Run"), Label("layer"), Label("status"), Label("output tokens/s", "decode_rate")]
    return Section("runs", "Runs", [Table(columns, rows, left=3)])
