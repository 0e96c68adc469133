"""Building blocks of charts, as Vega-Lite has them. Colours are named as in colours.py: "@c0"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from innerloop.harness.pages.colours import FONT, SERIES
from innerloop.harness.pages.parts import Series, Zoom

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name of the format; nothing is fetched

CONFIG: Spec = {
    "background": "@ground",
    "font": FONT,
    "padding": {"left": 2, "right": 12, "top": 6, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "domainColor": "@line",
        "gridColor": "@line",
        "tickColor": "@line",
        "labelColor": "@muted",
        "titleColor": "@muted",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelPadding": 5,
        "tickSize": 4,
        "labelLimit": 190,
    },
    "axisX": {"grid": False, "labelFlush": True, "labelOverlap": "greedy", "labelSeparation": 8},
    "axisY": {"domain": False, "ticks": False, "tickCount": 5, "minExtent": 46},
    "legend": {
        "labelColor": "@ink",
        "titleColor": "@muted",
        "orient": "top",
        "title": None,
        "labelFontSize": 12,
        "symbolType": "square",
        "columns": 7,
    },
    "range": {"category": [f"@c{number}" for number in range(len(SERIES))]},
    "line": {"strokeWidth": 1.6, "strokeJoin": "round", "color": "@c0"},
    "area": {"color": "@c0", "line": False},
    "bar": {"color": "@c0"},
    "point": {"filled": True, "size": 26, "color": "@c0", "opacity": 1},
    "rule": {"color": "@muted"},
    "text": {"color": "@ink", "fontSize": 11},
}

TEXT = 72  # pixels: a text behind a bar
_S = "(abs({0}) >= 0.9995 ? format({0}, ',.3r') + ' s' : abs({0}) >= 0.9995e-3 ? format({0} * 1e3, ',.3r') + ' ms'"
DURATION = _S + " : {0} == 0 ? '0 s' : format({0} * 1e6, ',.3r') + ' µs')"
_N = "(abs({0}) >= 1000 ? replace(format({0}, ',.0f'), /,/g, '\u202f') : format({0}, '.3~r'))"
DURATION_LABELS = DURATION.replace(".3r", ".3~r").format("datum.value")
NUMBER_LABELS = _N.format("datum.value")
PERCENT_LABELS = "format(datum.value * 100, '.3~r') + ' %'"


TICKS = {"expr": "max(3, floor(width / 95))"}  # of a horizontal axis, by the room that there is


def axis(title: str | None, labels: str | None = None, **more: Any) -> Spec:
    """An axis; `labels` is an expression such as DURATION_LABELS."""
    return {"title": title, **({"labelExpr": labels} if labels else {}), **more}


def across(title: str | None, labels: str | None = None, **more: Any) -> Spec:
    """A horizontal axis of numbers."""
    return axis(title, labels, tickCount=TICKS, **more)


UP: Spec = {"range": [{"expr": "height"}, 4]}  # of a vertical scale: what lies at its end is not cut in half


def duration_text(field: str, name: str) -> Spec:
    """A transform that writes a duration in seconds as text, for tooltips."""
    return {"calculate": f"datum.{field} == null ? '-' : " + DURATION.format(f"datum.{field}"), "as": name}


def number_text(field: str, name: str, unit: str = "") -> Spec:
    """The same of any number; `unit` is one of ours and stands behind it."""
    return {"calculate": f"datum.{field} == null ? '-' : {_N.format(f'datum.{field}')} + '{unit}'", "as": name}


def tips(**fields: str) -> list[Spec]:
    """Tooltip entries: field -> its title."""
    return [{"field": field, "title": title, "type": "nominal"} for field, title in fields.items()]


def quantitative(field: str, title: str | None, labels: str | None, scale: Mapping[str, Any] | None = None) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "axis": axis(title, labels),
        **({"scale": dict(scale)} if scale else {}),
    }


def with_room(most: float) -> Spec:
    """A scale from 0 to `most`, with room for a text behind the longest bar however wide the chart is."""
    return {"zero": True, "domainMax": {"expr": f"{float(most)!r} * width / max(width - {TEXT}, width / 2)"}}


def zoomed(field: str, axis_: Spec, place: str = "x") -> Spec:
    """A channel whose scale shows what is zoomed to: the parameters x0, x1 (y0, y1)."""
    scale = {"domain": [{"expr": f"{place}0"}, {"expr": f"{place}1"}], "nice": False, "zero": False}
    return {"field": field, "type": "quantitative", "axis": axis_, "scale": scale}


def parameters(zoom: Zoom | None, series: Sequence[Series]) -> list[Spec]:
    """What a page changes in a chart: `off`, the series that are hidden, and the span that is shown."""
    out: list[Spec] = [{"name": "off", "value": []}] if series else []
    if zoom is not None:
        out += [{"name": "x0", "value": zoom.x[0]}, {"name": "x1", "value": zoom.x[1]}]
        if zoom.y is not None:
            out += [{"name": "y0", "value": zoom.y[0]}, {"name": "y1", "value": zoom.y[1]}]
    return out


def colour(series: Sequence[Series]) -> Spec:
    """The channel that colours by series, each with a colour of its own, whichever are shown."""
    domain, colours = [one.name for one in series], [f"@c{one.colour % len(SERIES)}" for one in series]
    return {"field": "series", "type": "nominal", "scale": {"domain": domain, "range": colours}}


SHOWN: Spec = {"filter": "indexof(off, datum.series) < 0"}  # the rows of series that are not hidden


def shown_points(at: str) -> list[Spec]:
    """Transforms that keep the points of lines over `at` in the span that is shown, and of each line the nearest on
    either side of it, so that what leaves the span is still drawn and the other axis fits what is seen."""
    ends = [{"op": "lead", "field": at, "as": "next_at"}, {"op": "lag", "field": at, "as": "last_at"}]
    inside = "(datum.next_at == null || datum.next_at >= x0) && (datum.last_at == null || datum.last_at <= x1)"
    return [
        {"window": ends, "groupby": ["series"], "sort": [{"field": at}]},
        {"filter": inside},
    ]


def layered(*layers: Spec, encoding: Spec, zoom: Zoom | None = None, series: Sequence[Series] = ()) -> Spec:
    """A chart of several layers that share `encoding`."""
    return {
        "$schema": SCHEMA,
        "data": {"name": "rows"},
        "params": parameters(zoom, series),
        "encoding": encoding,
        "layer": list(layers),
    }


def single(mark: Spec, encoding: Spec, transform: Sequence[Spec] = (), **more: Any) -> Spec:
    """A chart of one mark. more: zoom, series."""
    zoom, series = more.get("zoom"), more.get("series", ())
    return {
        "$schema": SCHEMA,
        "data": {"name": "rows"},
        "params": parameters(zoom, series),
        "transform": [*transform, *([SHOWN] if series else [])],
        "mark": mark,
        "encoding": encoding,
    }
