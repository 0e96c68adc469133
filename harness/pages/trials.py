"""The page of several processes of the same thing, or of several windows of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import NONE, ends, number, seconds, share
from innerloop.harness.pages import specs
from innerloop.harness.pages.comparison import words_of
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
from innerloop.harness.report.trials import doubts, processes, remarks, title, value
from innerloop.harness.schema.trials import Load, TrialFigure, Trials


def trials_page(found: Trials, name: str, commands: Sequence[str] = ()) -> Page:
    """`commands` repeat it."""
    engine = " ".join(word for word in (found.engine.name, found.engine.version) if word)
    sections = [load_section(load, found, number) for number, load in enumerate(found.loads)]
    sections.append(runs(found))
    if commands:
        sections.append(Section("repeat", "How to repeat this", [Command([as_called(one) for one in commands])]))
    return Page(
        name=name,
        title=" · ".join(
            word for word in (engine, found.model, ", ".join(load.workload for load in found.loads)) if word
        ),
        subtitle=" · ".join(word for word in ("trials", processes(found), found.device, found.dtype) if word),
        status=found.status,
        tone=TONES.get(found.status, ""),
        verdict=" ".join(verdict(load, found.metric) for load in found.loads) or "No figures.",
        tiles=[*tiles(found)],
        sections=sections,
        aside=[*aside(found)],
    )


def verdict(load: Load, metric: str) -> str:
    """How fast, and how well that is known."""
    if metric in load.too_few:
        return f"{load.workload}: {words_of(metric)} is unknown: {load.too_few[metric]}."
    if not load.figures:
        return f"{load.workload}: no figures."
    one = load.figures[0]
    known = f" ± {share(one.half_width)}" if one.half_width is not None else ""
    of = "1 process" if load.processes == 1 else f"{load.processes} processes"
    return f"{load.workload}: {value(one, one.mean.value)}{known} over {of}."


def tiles(found: Trials) -> Iterator[Tile]:
    for load in found.loads[:3]:
        for one in load.figures[: 5 if len(found.loads) == 1 else 2]:
            where = f"{load.workload}: " if len(found.loads) > 1 else ""
            shown = seconds(one.mean.value) if one.unit == "s" else number(one.mean.value)
            detail = f"± {share(one.half_width)}" if one.half_width is not None else "no interval"
            yield Tile(Label(f"{where}{words_of(one.name)}", "trial_mean"), shown, detail)


def aside(found: Trials) -> Iterator[Part]:
    yield from (Callout("warn", capital(line)) for line in found.notes)
    if lines := [*doubts(found)]:
        yield Callout("warn", "Some figures are doubtful", [line.removeprefix("suspect: ") for line in lines])


def load_section(load: Load, found: Trials, number_: int) -> Section:
    rows = []
    for one in load.figures:
        cells = [
            cell(one, one.mean.value),
            ends(one.mean.low, one.mean.high, partial(cell, one), " – "),
            share(one.half_width),
            cell(one, one.low),
            cell(one, one.high),
            share(one.scatter),
            share(one.window_scatter),
        ]
        name = words_of(one.name) + ("\u00a0*" if one.doubtful else "")
        rows.append(Row(Label(name), cells, "strong" if one.name == found.metric else ""))
    rows += [Row(Label(words_of(one)), [NONE] * 7, "dim") for one in load.too_few]
    columns = [
        Label("Figure"), Label("mean", "trial_mean"), Label("95 %", "interval"), Label("±", "half_width"),
        Label("lowest"), Label("highest"), Label("between trials", "scatter"), Label("within trials", "scatter"),
    ]  # fmt: skip
    notes = [line for line in remarks(found)]
    parts: list[Part] = [chart(load, number_)] if len(load.runs) > 1 else []
    parts.append(filled(Table(columns, rows, note=" ".join(f"{capital(line)}." for line in notes))))
    return Section(f"load{number_}", title(load), parts)


def cell(one: TrialFigure, given: float | None) -> str:
    return seconds(given) if one.unit == "s" else number(given)


def chart(load: Load, number_: int) -> Chart:
    """Each run's speed, the mean of all, and its interval."""
    known = [(place, run) for place, run in enumerate(load.runs, 1) if run.output_tokens_per_s is not None]
    rates = [run.output_tokens_per_s for _, run in known]
    columns = {
        "order": [place for place, _ in known],
        "v": plain(rates),
        "series": [run.status for _, run in known],
        "run": [run.folder for _, run in known],
    }
    rate = next((one for one in load.figures if one.name == "throughput.output_tokens_per_s"), None)
    mean = {"mean": [], "low": [], "high": []} if rate is None else {
        "mean": plain([rate.mean.value]),
        "low": plain([rate.mean.low]),
        "high": plain([rate.mean.high]),
    }  # fmt: skip
    colours = {"ok": 0, "suspect": 1, "failed": 6, "interrupted": 6}
    series = tuple(Series(name, colours.get(name, 7), "suspect" if name == "suspect" else None)
                   for name in dict.fromkeys(columns["series"]))  # fmt: skip
    y = specs.quantitative(
        "v", "output tokens/s", specs.NUMBER_LABELS, {"zero": False, "padding": 8}
    )  # the band's edges are seen
    band = {
        "data": {"name": "mean"},
        "transform": [{"filter": "datum.low != null"}],
        "mark": {"type": "rect", "color": "@band"},
        "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}},
    }
    line = {"data": {"name": "mean"}, "mark": {"type": "rule"}, "encoding": {"y": {**y, "field": "mean"}}}
    behind = ([band] if mean["low"] and mean["low"][0] is not None else []) + ([line] if mean["mean"] else [])
    dots = {
        "transform": [specs.SHOWN, specs.number_text("v", "v_text", " tokens/s")],
        "mark": {"type": "point", "size": 70, "tooltip": True},
        "encoding": {
            "x": {"field": "order", "type": "ordinal", "axis": specs.axis("run, in order of time", labelAngle=0)},
            "y": y,
            "color": specs.colour(series),
            "tooltip": specs.tips(run="run", v_text="speed", series="status"),
        },
    }
    return Chart(
        f"runs-{number_}",
        Label("Output tokens per second of each run", "decode_rate"),
        specs.layered(*behind, dots, encoding={}, series=series),
        columns,
        {"order": "order", "run": "run", "v": "output tokens/s", "series": "status"},
        "The speed of each run, with the mean and its interval",
        others={"mean": mean},
        series=series,
        height=200,
        note="The line is the mean, the band its 95 % interval." if mean["mean"] else "",
    )


def runs(found: Trials) -> Section:
    rows = [
        Row(Label(run.folder), [load.workload, run.status, number(run.output_tokens_per_s)])
        for load in found.loads
        for run in load.runs
    ]
    columns = [Label("Run"), Label("workload"), Label("status"), Label("output tokens/s", "decode_rate")]
    return Section("runs", "Runs", [Table(columns, rows, left=3)])
