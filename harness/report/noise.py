"""A machine's noise as a person reads it: how much two identical runs differ, and what comparisons can show then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.harness.analysis.noise import blocks_within, half_width_with, visible_with
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.lists import print_list
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import NONE, number, seconds, share, visible
from innerloop.harness.report.comparison import footnotes, short_name
from innerloop.harness.report.tables import section, table
from innerloop.harness.schema.noise import FigureNoise, Noise

SHOWN_BLOCKS = (3, 5, 8, 12, 20, 30, 50)
WIDTHS = (0.01, 0.02)


def print_noise(found: Noise, kept: bool, console: Console | None = None) -> None:
    """`kept`: later comparisons on this machine use it."""
    (console or PlainConsole()).print(Group(*parts(found, kept)))


def print_all(found: Sequence[Noise], console: Console | None = None) -> None:
    """Every load whose noise is known, a line each."""
    console = console or PlainConsole()
    if not found:
        console.out(as_called("no noise measured on this machine yet; run innerloop noise --base ARGUMENTS"))
        return
    columns = ("measured", "of", "metric", "status", "noise", "trials")
    rows = [
        (one.created[:10], title(one), short_name(one.metric), one.status, share(one.margin), number(one.trials))
        for one in found
    ]
    print_list(console, columns, rows, right=columns[4:])


def title(found: Noise) -> str:
    load = found.load
    engine = " ".join(str(word) for word in (load.get("engine"), found.engine_version, load.get("layer")) if word)
    return " · ".join(visible(str(word)) for word in (engine, load.get("model"), load.get("workload")) if word)


def parts(found: Noise, kept: bool) -> Iterator[RenderableType]:
    took = "" if found.trial_s is None else f", {seconds(found.trial_s)} per trial"
    headline = Text(f"{title(found)}  {found.trials} trials of two identical runs{took}", style="bold")
    yield headline.append("  SUSPECT", style="yellow") if found.status != "ok" else headline
    for line in found.notes:
        yield Text(f"! {line}", style="yellow")
    yield section("How much two identical runs differ", scatter(found))
    yield section(f"What comparisons of {short_name(found.metric)} can show", planning(found))
    margin = f"differences up to {share(found.margin)} unless --margin says otherwise"
    told = f"stored for this machine: comparisons ignore {margin}" if kept else "not stored for this machine"
    yield Text(told, style="dim")


def scatter(found: Noise) -> RenderableType:
    out = table("", "back to back", "any two", gap=2)
    for name, one in found.figures.items():
        style = "bold" if name == found.metric else ""
        cells = (short_name(name), relative(one.neighbours), any_two(one))
        out.add_row(*(Text(cell, style=style) for cell in cells))
    for name in found.too_few:
        out.add_row(short_name(name), NONE, NONE)
    note = "standard deviation of the ratio of two runs: back to back, or any two"
    return Group(out, *(Text(line, style="dim") for line in (note, *footnotes(found.too_few))))


def relative(of: float) -> str:
    return share(math.expm1(of))


def any_two(one: FigureNoise) -> str:
    """The scatter of the ratio of two runs that were made at any times."""
    return relative(one.processes * math.sqrt(2))


def planning(found: Noise) -> RenderableType:
    sigma = found.figures[found.metric].neighbours
    out = table("trials", "detectable", "interval", "minutes", left=0, gap=2)
    for trials, cells in planned(found):
        out.add_row(str(trials), *cells)
    lines: list[RenderableType] = [out]
    for width in WIDTHS:
        needed = blocks_within(width, sigma)
        told = "too many trials" if needed is None else f"{number(needed)} trials, {of_blocks(needed, found)} min"
        lines.append(Text(f"an interval of ±{share(width)} needs {told}"))
    return Group(*lines, Text("detectable: difference found with 80 % power; intervals: 95 %", style="dim"))


def planned(found: Noise) -> Iterator[tuple[int, list[str]]]:
    """What so many trials can show: the detectable difference, the interval, minutes."""
    sigma = found.figures[found.metric].neighbours
    for trials in SHOWN_BLOCKS:
        wide = f"±{share(half_width_with(trials, sigma))}"
        yield trials, [share(visible_with(trials, sigma, found.margin)), wide, of_blocks(trials, found)]


def of_blocks(blocks: int, found: Noise) -> str:
    return NONE if found.trial_s is None else minutes(blocks * found.trial_s)


def minutes(seconds: float) -> str:
    return number(seconds / 60, 2)
