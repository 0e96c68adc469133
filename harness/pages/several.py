"""What several runs have in common, and how they differ: the overview in front of their pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from innerloop.harness.cli.words import NONE, assignments, number, seconds
from innerloop.harness.pages import specs
from innerloop.harness.pages.distributions import ecdf, values_of
from innerloop.harness.pages.parts import Chart, Label, Page, Part, Row, Section, Series, Table
from innerloop.harness.pages.source import Source
from innerloop.harness.pages.speed import point
from innerloop.harness.pages.summary import TONES, title
from innerloop.harness.pages.thin import plain

MOST_CURVES = 8
WORST = ("failed", "interrupted", "suspect")  # states of runs, the worst first


def overview(runs: Sequence[Source]) -> Page:
    """A table with a line for each run, their speeds with intervals, and their ITL as curves."""
    parts: list[Part] = [table(runs), *([speeds(runs)] if any(run.result.counts.steps for run in runs) else [])]
    curves = {name(run, runs): values["ITL"] for run in runs[:MOST_CURVES] if "ITL" in (values := values_of(run))}
    if len(curves) > 1:
        parts.append(itl(curves, len(runs)))
    states = Counter[str](run.result.status for run in runs)
    status = next((one for one in WORST if one in states), "")
    told = ", ".join(f"{states[one]} {one}" for one in WORST if one in states)
    return Page(
        name="overview",
        title=f"{len(runs)} runs",
        subtitle="side by side; each has its own page below" + (f" · {told}" if told else ""),
        status=status,
        tone=TONES.get(status, ""),
        verdict="These runs were not measured as a comparison; innerloop compare shows whether differences repeat.",
        tiles=[],
        sections=[Section("overview", "Overview", parts)],
    )


def name(run: Source, runs: Sequence[Source]) -> str:
    """A run's name among these: its folder's, with a number where another one has it."""
    same = [other for other in runs if other.name == run.name]
    number = next(place for place, other in enumerate(same, 1) if other is run)
    return run.name if len(same) == 1 else f"{run.name} ({number})"


def table(runs: Sequence[Source]) -> Table:
    rows = []
    for run in runs:
        of, latency = run.result, run.result.latency_s
        steady = of.steady.throughput
        cells = [
            title(of),
            assignments({**of.spec.given, **of.spec.label}) or NONE,
            of.status,
            number(of.throughput.output_tokens_per_s),
            number(None if steady is None else steady.output_tokens_per_s),
            point(latency.ttft, "p50"),
            seconds(latency.itl.p50),
            point(latency.itl, "p99"),
            number(of.counts.finished),
        ]
        rows.append(Row(Label(name(run, runs)), cells))
    columns = [
        Label("Run"), Label("what"), Label("set"), Label("status"), Label("output tokens/s", "decode_rate"),
        Label("steady", "steady"), Label("TTFT p50", "ttft"), Label("ITL p50", "itl"), Label("ITL p99", "itl"),
        Label("finished", "finished"),
    ]  # fmt: skip
    return Table(columns, rows, left=4)


def speeds(runs: Sequence[Source]) -> Chart:
    """Output tokens a second of each run: of its steady window with the interval, else of the whole window."""
    names, rates, lows, highs, parts = [], [], [], [], []
    for run in runs:
        steady = run.result.steady.throughput
        rate = steady.output_tokens_per_s if steady is not None else run.result.throughput.output_tokens_per_s
        if rate is None:
            continue
        ci = steady.output_tokens_per_s_ci if steady is not None else None
        low, high = (None, None) if ci is None else ci
        names.append(name(run, runs))
        rates.append(rate)
        lows.append(low)
        highs.append(high)
        parts.append("steady window" if steady is not None else "whole window")
    series = tuple(Series(one, {"steady window": 0, "whole window": 6}[one]) for one in dict.fromkeys(parts))
    columns = {"run": names, "v": plain(rates), "low": plain(lows), "high": plain(highs), "series": parts}
    bounded = any(low is not None for low in lows)
    y = {"field": "run", "type": "nominal", "sort": None, "axis": specs.axis(None)}
    x = specs.quantitative("v", None, None) | {"axis": specs.across("output tokens/s", specs.NUMBER_LABELS, grid=True)}
    bars = {
        "transform": [specs.SHOWN, specs.number_text("v", "v_text", " tokens/s")],
        "mark": {"type": "bar", "tooltip": True, "height": {"band": 0.62}},
        "encoding": {
            "x": x,
            "color": specs.colour(series),
            "tooltip": specs.tips(run="run", v_text="speed", series="of the"),
        },
    }
    span = {
        "transform": [specs.SHOWN, {"filter": "datum.low != null"}],
        "mark": {"type": "rule", "color": "@ink", "strokeWidth": 1.5},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
    }
    return Chart(
        "speeds",
        Label("Output tokens per second", "decode_rate"),
        specs.layered(bars, *([span] if bounded else []), encoding={"y": y}, series=series),
        columns,
        {"run": "run", "v": "output tokens/s", "low": "low", "high": "high", "series": "of the"},
        "Output tokens per second of each run, with intervals",
        series=series,
        height=34 + 26 * max(len(names), 1),
        note="Lines are 95 % intervals." if bounded else "",
    )


def itl(curves: dict[str, np.ndarray], runs: int) -> Chart:
    """The inter-token latencies of several of the runs as curves."""
    series = tuple(Series(one, place) for place, one in enumerate(curves))
    chart = ecdf(curves, "itl-of-runs", series, Label("Inter-token latency, share of values", "itl"))
    left = f" Of the first {MOST_CURVES} of {runs} runs." if runs > MOST_CURVES else ""
    return replace(chart, note=(chart.note + left).strip())
