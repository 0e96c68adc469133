"""The Pareto chart of a grid of runs: what a device gives against what a user gets, with interval boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from innerloop.harness.cli.words import NONE, ends, number
from innerloop.harness.pages import specs
from innerloop.harness.pages.parts import Chart, Label, Row, Section, Series, Table
from innerloop.harness.pages.thin import plain
from innerloop.harness.report.sweep import BELOW, OPEN, beaten, marked, unbeaten
from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.sweep import SweepCell

FRONTIER, BEATEN = "on the frontier", "dominated at 95 %"
SERIES = (Series(FRONTIER, 0, "frontier"), Series(OPEN, 1), Series(BELOW, 1), Series(BEATEN, 6, "dominated"))
X, Y = "output tokens/s per user (interactivity)", "output tokens/s per device"
MOST_NAMES = 12  # of points with their names above them: all, else those of the frontier
NAME = {"type": "text", "dy": -9, "limit": 170}


def pareto(ranked: Sequence[SweepCell]) -> Section | None:
    """Throughput of a device against that of a user, a box for each cell's intervals; None without such figures."""
    known = [cell for cell in ranked if mean(cell.interactivity) and mean(cell.tokens_per_s_per_device)]
    if not known:
        return None
    intro = (
        "Further right: faster for each user. Higher up: more per device. The line joins the cells that no other cell "
        "beats on both; boxes, where a cell has three processes, are 95 % intervals."
    )
    return Section("pareto", "Throughput vs. interactivity", [pareto_chart(known), ranks(known)], intro)


def kind(cell: SweepCell) -> str:
    return FRONTIER if cell.frontier else BEATEN if cell.dominated_by else unbeaten(cell)


def pareto_chart(known: Sequence[SweepCell]) -> Chart:
    def bound(cell: SweepCell, which: str, end: str) -> float | None:
        of: Estimate = getattr(cell, which)
        return of.low if end == "low" else of.high

    columns: dict[str, list[Any]] = {
        "cell": [cell.name for cell in known],
        "series": [kind(cell) for cell in known],
        "x": plain([mean(cell.interactivity) for cell in known]),
        "y": plain([mean(cell.tokens_per_s_per_device) for cell in known]),
        "words": [f"{interval(cell.interactivity)}; {interval(cell.tokens_per_s_per_device)}" for cell in known],
    }
    named = [cell.frontier or len(known) <= MOST_NAMES for cell in known]
    few = sum(map(bool, named)) <= MOST_NAMES
    columns["name"] = [cell.name if few and of else "" for cell, of in zip(known, named, strict=True)]
    for name, which, end in (
        ("x0", "interactivity", "low"),
        ("x1", "interactivity", "high"),
        ("y0", "tokens_per_s_per_device", "low"),
        ("y1", "tokens_per_s_per_device", "high"),
    ):
        columns[name] = plain([bound(cell, which, end) for cell in known])
    columns["top"] = [y if high is None else high for y, high in zip(columns["y"], columns["y1"], strict=True)]
    shown = tuple(one for one in SERIES if one.name in columns["series"])
    x = specs.quantitative("x", None, None, {"zero": False}) | {"axis": specs.across(X, specs.NUMBER_LABELS, grid=True)}
    y = specs.quantitative("y", Y, specs.NUMBER_LABELS, {"zero": False, **specs.UP})
    color, tips = specs.colour(shown), specs.tips(cell="cell", series="it is", words="per user; per device")
    boxes = {
        "transform": [specs.SHOWN, {"filter": "datum.x0 != null && datum.y0 != null"}],
        "mark": {"type": "rect", "fillOpacity": 0.12, "strokeOpacity": 0.55, "strokeWidth": 1, "clip": True},
        "encoding": {
            "x": {**x, "field": "x0"}, "x2": {"field": "x1"}, "y": {**y, "field": "y0"}, "y2": {"field": "y1"},
            "color": color, "stroke": color,
        },
    }  # fmt: skip
    line = {
        "transform": [specs.SHOWN, {"filter": f"datum.series == '{FRONTIER}'"}],
        "mark": {"type": "line", "color": "@c0", "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y, "order": {"field": "x", "type": "quantitative"}},
    }
    points = {
        "transform": [specs.SHOWN],
        "mark": {"type": "point", "size": 64, "opacity": 1, "tooltip": True},
        "encoding": {"x": x, "y": y, "color": color, "tooltip": tips},
    }
    names = {
        "transform": [specs.SHOWN, {"filter": "datum.name != ''"}],
        "encoding": {"x": x, "y": {**y, "field": "top"}, "text": {"field": "name"}},
        "layer": [
            {"mark": {**NAME, "stroke": "@ground", "strokeWidth": 4, "strokeJoin": "round"}},
            {"mark": {**NAME, "color": "@muted"}},
        ],
    }
    boxed = any(low is not None for low in columns["x0"])
    return Chart(
        "pareto",
        Label("Frontier", "frontier"),
        specs.layered(*([boxes] if boxed else []), line, names, points, encoding={}, series=shown),
        columns,
        {"cell": "cell", "series": "state", "x": X, "x0": "low", "x1": "high", "y": Y, "y0": "low", "y1": "high"},
        "Throughput per device vs. interactivity, with interval boxes",
        series=shown,
        height=340,
        note="" if boxed else "No boxes: fewer than three processes per cell.",
    )


def ranks(known: Sequence[SweepCell]) -> Table:
    rows = []
    for cell in sorted(known, key=lambda one: mean(one.interactivity) or 0.0):
        words = kind(cell) if cell.frontier else beaten(cell) or kind(cell)
        cells_ = [interval(cell.interactivity), interval(cell.tokens_per_s_per_device), words]
        rows.append(Row(Label(marked(cell)), cells_, "strong" if cell.frontier else ""))
    return Table([Label("Cell"), Label("per user", "user_rate"), Label("per device"), Label("it is")], rows)


def mean(of: Estimate | None) -> float | None:
    return None if of is None else of.value


def interval(of: Estimate | None) -> str:
    if of is None or of.value is None:
        return NONE
    bounds = ends(of.low, of.high, number, " – ")
    return number(of.value) if bounds == NONE else f"{number(of.value)} ({bounds})"
