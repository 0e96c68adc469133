"""Where step time goes: its phases over time, and by batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.steps import gaps_ns, wall_ns
from innerloop.harness.cli.words import number, seconds, share
from innerloop.harness.pages import specs
from innerloop.harness.pages.parts import TIME, Chart, Label, Row, Section, Series, Table, Zoom, filled
from innerloop.harness.pages.source import Source
from innerloop.harness.pages.speed import bounds, point
from innerloop.harness.pages.thin import plain
from innerloop.harness.report.run import PHASE_WORDS

BINS = 100  # over time
GROUPS = 8  # of batch sizes
NAMES = (*PHASES, "other_host", "bubble")
WORDS = {**PHASE_WORDS, "bubble": "between steps"}
COLOURS = {"schedule": 1, "prepare": 4, "execute": 0, "wait": 5, "sample": 3, "update": 2, "other_host": 7, "bubble": 6}


def phases(run: Source) -> Section | None:
    """None where no step was recorded."""
    if not len(run.tables.steps):
        return None
    parts: list[Table | Chart] = [table(run)]
    amounts = amounts_s(run)
    if len(amounts) > 1:
        parts += [one for one in (over_time(run, amounts), by_batch(run, amounts)) if one is not None]
    share_of = run.result.time_share
    intro = (
        f"Time in the window: {share(share_of.steps)} in steps, {share(share_of.bubbles)} between steps while there "
        f"was work, {share(share_of.idle)} idle."
    )
    return Section("steps", "Steps and their phases", parts, intro)


def table(run: Source) -> Table:
    times, shares = run.result.step_s, run.result.step_share
    rows = []
    for name, words, part in _rows():
        of = getattr(times, name)
        if of.count:
            cells = [share(getattr(shares, name)) if part else ("100.0 %" if name == "wall" else "")]
            cells += [seconds(of.mean), point(of, "p50"), bounds(of.p50_ci), point(of, "p90"), point(of, "p99")]
            style: Literal["", "strong", "part"] = "strong" if name == "wall" else "part" if part else ""
            rows.append(Row(Label(words, name), [*cells, number(of.count)], style))
    names = ("share", "share"), ("mean", None), ("p50", "p50"), ("95 %", "interval"), ("p90", "p90"), ("p99", "p99")
    return filled(Table([Label("Step"), *(Label(name, term) for name, term in names), Label("n", "n")], rows))


def _rows() -> Iterator[tuple[str, str, bool]]:
    """(field, words, whether it is a part of a step)."""
    yield "wall", "all steps", False
    yield from ((name, words, True) for name, words in PHASE_WORDS.items())
    yield from (("decode_only", "decode only", False), ("with_prefill", "with prefill", False))
    yield "bubble", "between steps", False


def amounts_s(run: Source) -> dict[str, np.ndarray]:
    """Seconds of each step in each phase that is reported, in none, and in the gap behind it, float64 [steps] each."""
    steps = run.tables.steps
    found = {}
    for phase in PHASES:
        column = steps[f"{phase}_ns"]
        if known(column).any():
            found[phase] = np.where(known(column), column, 0) * NS
    if "execute" in found:
        found["other_host"] = np.maximum(wall_ns(steps) * NS - sum(found.values()), 0)
    else:
        found = found or {"execute": wall_ns(steps) * NS}
    if run.result.engine.stepping != "observed":
        found["bubble"] = gaps_ns(steps, run.tables.requests, *run.window)[2][1:] * NS
    return {name: found[name] for name in NAMES if name in found and found[name].any()}


def series_of(amounts: dict[str, np.ndarray]) -> tuple[Series, ...]:
    return tuple(Series(WORDS[name], COLOURS[name], name) for name in amounts)


def over_time(run: Source, amounts: dict[str, np.ndarray]) -> Chart:
    """Stacked means per step of equal spans of time; a step counts in the span in which it begins."""
    steps = run.tables.steps
    length = (run.window[1] - run.window[0]) / 1e9
    bins = int(min(BINS, max(len(steps) // 4, 1)))
    place = np.clip((run.at_s(steps["start_ns"]) / length * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    edges = np.linspace(0, length, bins + 1)
    columns: dict[str, list[object]] = {"series": [], "order": [], "from": [], "to": [], "v": [], "steps": []}
    for order, (name, given) in enumerate(amounts.items()):
        means = np.divide(np.bincount(place, given, bins), counts, out=np.zeros(bins), where=counts > 0)
        some = counts > 0
        columns["series"] += [WORDS[name]] * int(some.sum())
        columns["order"] += [order] * int(some.sum())
        for key, values in (("from", edges[:-1]), ("to", edges[1:]), ("v", means), ("steps", counts)):
            columns[key] += plain(values[some])
    zoom, series = Zoom(TIME, (0.0, round(length, 6))), series_of(amounts)
    stacked = {"stack": "v", "groupby": ["from"], "sort": [{"field": "order"}], "as": ["low", "high"]}
    spec = specs.single(
        {"type": "rect", "clip": True, "tooltip": True},
        {
            "x": specs.zoomed("from", specs.across("seconds since the window opened")),
            "x2": {"field": "to"},
            "y": specs.quantitative("low", "mean per step", specs.DURATION_LABELS, specs.UP),
            "y2": {"field": "high"},
            "color": specs.colour(series),
            "tooltip": specs.tips(series="phase", v_text="mean per step", from_text="from", steps="steps"),
        },
        [
            specs.SHOWN,
            {"filter": "datum.to >= x0 && datum.from <= x1"},
            stacked,
            specs.duration_text("v", "v_text"),
            specs.number_text("from", "from_text", " s"),
        ],
        zoom=zoom,
        series=series,
    )
    return Chart(
        "phases-over-time",
        Label("Phases over time", "phase"),
        spec,
        columns,
        {"series": "phase", "from": "from, s", "to": "to, s", "v": "mean per step, s", "steps": "steps"},
        "Mean time per step in each phase, over the window",
        series=series,
        zoom=zoom,
        height=220,
        note=f"A bar for each {seconds(length / bins)}: the mean of the steps that began in it.",
    )


def groups(running: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Which group of batch sizes each step is in, int64 [steps], and what each is called: as even in steps as whole
    sizes allow, the smallest batches first."""
    edges = np.unique(np.quantile(running, np.linspace(0, 1, GROUPS + 1), method="nearest"))
    place = np.clip(np.searchsorted(edges, running, side="right") - 1, 0, max(len(edges) - 2, 0))
    names = []
    for group in range(int(place.max()) + 1):
        inside = running[place == group]
        low, high = (int(inside.min()), int(inside.max())) if len(inside) else (0, 0)
        names.append(str(low) if low == high else f"{low}–{high}")
    return place, names


def by_batch(run: Source, amounts: dict[str, np.ndarray]) -> Chart | None:
    """Stacked means per step of similar batches; None where the engine does not report its batch."""
    running = run.tables.steps["running"]
    if not known(running).all():
        return None
    place, names = groups(running)
    counts = np.bincount(place, minlength=len(names))
    columns: dict[str, list[object]] = {"series": [], "order": [], "batch": [], "v": [], "steps": []}
    for order, (name, given) in enumerate(amounts.items()):
        means = np.divide(np.bincount(place, given, len(names)), counts, out=np.zeros(len(names)), where=counts > 0)
        columns["series"] += [WORDS[name]] * len(names)
        columns["order"] += [order] * len(names)
        columns["batch"] += names
        columns["v"] += plain(means)
        columns["steps"] += plain(counts)
    series = series_of(amounts)
    spec = specs.single(
        {"type": "bar", "tooltip": True, "height": {"band": 0.72}},
        {
            "y": {"field": "batch", "type": "nominal", "sort": None, "axis": specs.axis("requests in the batch")},
            "x": specs.quantitative("v", "mean per step", specs.DURATION_LABELS)
            | {"stack": "zero", "axis": specs.across("mean per step", specs.DURATION_LABELS, grid=True)},
            "color": specs.colour(series),
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": specs.tips(series="phase", v_text="mean per step", batch="batch", steps="steps"),
        },
        [specs.duration_text("v", "v_text")],
        series=series,
    )
    return Chart(
        "phases-by-batch",
        Label("Phases by batch size", "batch"),
        spec,
        columns,
        {"series": "phase", "batch": "requests in the batch", "v": "mean per step, s", "steps": "steps"},
        "Mean time per step in each phase, by batch size",
        series=series,
        height=44 + 26 * len(names),
    )
