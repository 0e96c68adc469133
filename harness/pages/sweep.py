"""The page of a grid of runs: its frontier, every cell, and published figures beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import number, seconds
from innerloop.harness.pages import specs
from innerloop.harness.pages.frontier import interval, mean, pareto
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
from innerloop.harness.report.sweep import (
    RATE,
    TPOT,
    TTFT,
    curve_name,
    doubts,
    loads_of,
    marked,
    reasons,
    remarks,
    word,
)
from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.sweep import Sweep, SweepCell

STATES = {"done": 0, "suspect": 1}  # colours
MOST_BARS = 60


def sweep_page(found: Sweep, name: str, commands: Sequence[str] = ()) -> Page:
    """`commands` repeat it."""
    ranked = [cell for cell in found.cells if cell.frontier is not None]
    counts = ", ".join(f"{count} {word(state)}" for state, count in found.counts.items())
    trials = "1 process" if found.trials == 1 else f"{found.trials} processes"
    sections = [pareto(ranked), cells(found)]
    if found.curves:
        sections.append(levels(found))
    if found.published:
        sections.append(published(found))
    if commands:
        sections.append(Section("repeat", "How to repeat this", [Command([as_called(one) for one in commands])]))
    return Page(
        name=name,
        title=found.title or found.name or f"Sweep over {', '.join(found.axes)}",
        subtitle=f"sweep · {len(found.cells)} cells ({counts}), {trials} each",
        status=found.status,
        tone=TONES.get(found.status, ""),
        verdict=verdict(found, ranked),
        tiles=[*tiles(ranked)],
        sections=[section for section in sections if section is not None],
        aside=[*aside(found)],
    )


def verdict(found: Sweep, ranked: Sequence[SweepCell]) -> str:
    """Which cell is fastest, and which are worth a look."""
    fastest = most(ranked, lambda cell: cell.tokens_per_s_per_device)
    if fastest is None:
        return "No cell has figures that can be ranked."
    frontier = sum(bool(cell.frontier) for cell in ranked)
    of = interval(fastest.tokens_per_s_per_device)
    best = f"Highest throughput: {marked(fastest)}, {of} output tokens/s per device."
    return f"{best} {frontier} of {len(ranked)} ranked cells lie on the frontier."


def tiles(ranked: Sequence[SweepCell]) -> Iterator[Tile]:
    if fastest := most(ranked, lambda cell: cell.tokens_per_s_per_device):
        yield Tile(Label("highest tokens/s per device"), number(mean(fastest.tokens_per_s_per_device)), marked(fastest))
    if quick := most(ranked, lambda cell: cell.interactivity):
        yield Tile(Label("highest tokens/s per user", "user_rate"), number(mean(quick.interactivity)), marked(quick))
    if first := most(ranked, lambda cell: cell.figures.get(TTFT), sign=-1):
        yield Tile(Label("lowest TTFT, p50", "ttft"), seconds(mean(first.figures.get(TTFT))), marked(first))


def most(cells_: Sequence[SweepCell], of: Callable[[SweepCell], Estimate | None], sign: int = 1) -> SweepCell | None:
    """The cell of the largest mean (sign -1: of the smallest) among those that have one."""
    known = [(sign * value, -place) for place, cell in enumerate(cells_) if (value := mean(of(cell))) is not None]
    return cells_[-max(known)[1]] if known else None


def aside(found: Sweep) -> Iterator[Part]:
    yield from (Callout("warn", capital(note)) for note in found.notes)
    if lines := [*reasons(found)]:
        yield Callout("warn", "Some cells have no figures", lines)
    if lines := [capital(line) for line in doubts(found)]:
        yield Callout("warn", "Some runs are suspect", lines)


def cells(found: Sweep) -> Section:
    """Every cell's speed as a bar, and its figures."""
    rows = []
    for cell in found.cells:
        quoted = "; ".join(f"{one.figure}: {one.words}" for one in cell.published)
        figures = [
            word(cell.state),
            interval(cell.figures.get(RATE)),
            seconds(mean(cell.figures.get(TTFT))),
            seconds(mean(cell.figures.get(TPOT))),
            interval(cell.energy_j_per_token),
            str(cell.processes),
            quoted,
        ]
        rows.append(Row(Label(marked(cell)), figures, "" if RATE in cell.figures else "dim"))
    columns = [
        Label("Cell"), Label("state"), Label("output tokens/s", "decode_rate"), Label("TTFT p50", "ttft"),
        Label("TPOT p50", "tpot"), Label("J/token", "energy_per_token"), Label("processes"), Label("published"),
    ]  # fmt: skip
    measured = [cell for cell in found.cells if RATE in cell.figures]
    note = " ".join(f"{capital(line)}." for line in remarks(found, whole=True))
    parts: list[Part] = [*([bars(measured)] if measured else []), filled(Table(columns, rows, left=2, note=note))]
    return Section("cells", "Cells", parts)


def bars(every: Sequence[SweepCell]) -> Chart:
    measured = every[:MOST_BARS]
    rates = [cell.figures[RATE] for cell in measured]
    states = [word(cell.state) for cell in measured]
    columns: dict[str, Sequence[Any]] = {
        "cell": [cell.name for cell in measured],
        "series": states,
        "v": plain([mean(rate) for rate in rates]),
        "low": plain([rate.low for rate in rates]),
        "high": plain([rate.high for rate in rates]),
        "words": [interval(rate) for rate in rates],
    }
    series = tuple(Series(state, STATES.get(state, 6)) for state in dict.fromkeys(states))
    bounded = any(rate.low is not None for rate in rates)
    left = f"The first {MOST_BARS} of {len(every)} cells; the table has all. " if len(every) > MOST_BARS else ""
    x = specs.quantitative("v", None, None) | {"axis": specs.across("output tokens/s", specs.NUMBER_LABELS, grid=True)}
    bar = {
        "transform": [specs.SHOWN],
        "mark": {"type": "bar", "tooltip": True, "height": {"band": 0.62}},
        "encoding": {
            "x": x,
            "color": specs.colour(series),
            "tooltip": specs.tips(cell="cell", words="output tokens/s", series="state"),
        },
    }
    span = {
        "transform": [specs.SHOWN, {"filter": "datum.low != null"}],
        "mark": {"type": "rule", "color": "@ink", "strokeWidth": 1.5},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
    }
    y = {"field": "cell", "type": "nominal", "sort": None, "axis": specs.axis(None)}
    return Chart(
        "cells",
        Label("Output tokens per second of each cell", "decode_rate"),
        specs.layered(bar, *([span] if bounded else []), encoding={"y": y}, series=series),
        columns,
        {"cell": "cell", "v": "output tokens/s", "low": "low", "high": "high", "series": "state"},
        "Output tokens per second of each cell, with intervals",
        series=series,
        height=34 + 24 * len(measured),
        note=left + ("Lines are 95 % intervals." if bounded else ""),
    )


def levels(found: Sweep) -> Section:
    """Throughput at fixed interactivity, a table for each set of levels."""
    tables: dict[tuple[tuple[float, ...], str], list[Row]] = {}
    for curve in found.curves:
        places, loads = tuple(level.interactivity for level in curve.levels), loads_of(found, curve)
        told = [interval(one.tokens_per_s_per_device) if one.state == "between" else one.state for one in curve.levels]
        tables.setdefault((places, loads), []).append(Row(Label(curve_name(curve)), told))
    parts = [
        Table([Label(f"{loads}; tokens/s per user:"), *(Label(number(place)) for place in places)], rows)
        for (places, loads), rows in tables.items()
        if places
    ]
    intro = "Output tokens/s per device, interpolated linearly between measured cells and never beyond them."
    return Section("levels", "At a fixed interactivity", parts, intro)


def published(found: Sweep) -> Section:
    """Where the suite comes from, and what differs here."""
    of = dict(found.published or {})
    gpus = found.machine.get("gpus") or []
    here = {"hardware": f"{found.machine.get('cpu')}, {f'{len(gpus)} GPU(s)' if gpus else 'no GPU'}"}
    rows = [
        Row(Label(str(name)), [str(words), here.get(name, "see the cells")])
        for name, words in of.get("conditions", {}).items()
    ]
    intro = " · ".join(str(of[name]) for name in ("title", "date", "source") if of.get(name))
    table = Table([Label("What differs"), Label("published"), Label("here")], rows, left=3)
    return Section("published", "Published figures", [table], intro)
