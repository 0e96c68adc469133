"""What a grid of runs says, as a person reads it: a line a cell, the Pareto table, published figures beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, counted, ends, number, seconds, visible
from innerloop.harness.report.layers import STYLE
from innerloop.harness.report.tables import section, table
from innerloop.harness.result.codes import DOUBTS
from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.sweep import Curve, Sweep, SweepCell

MOST_CELLS = 60  # that are printed; document.json lists all of them
OPEN, BELOW = "not dominated at 95 %", "below the frontier"
RATE, TTFT, TPOT = "throughput.output_tokens_per_s", "latency_s.ttft.p50", "latency_s.tpot.p50"


def print_sweep(found: Sweep, folder: Path | None = None, console: Console | None = None) -> None:
    (console or PlainConsole()).print(Group(*parts(found, folder)))


def parts(found: Sweep, folder: Path | None) -> Iterator[RenderableType]:
    yield header(found)
    if found.published:
        yield from conditions(found)
    yield section("cells", cells(found))
    if any(cell.frontier is not None for cell in found.cells):
        yield section("tokens/s per device vs. per user (interactivity)", pareto(found))
    yield from curves(found)
    yield Text("")
    for line in remarks(found):
        yield Text(line, style="dim")
    for line in (*found.notes, *reasons(found), *(f"suspect: {one}" for one in doubts(found))):
        yield Text(f"! {line}", style="yellow")
    if folder is not None:
        yield Text("")
        yield Text(visible(str(folder)), style="bold")
        yield Text("  document.json  runs/", style="dim")


def header(found: Sweep) -> RenderableType:
    name = ": ".join(filter(None, [found.name, found.title])) or "sweep"
    first = Text(f"innerloop {found.innerloop_version} · {name}", style="bold")
    status = Text(found.status.upper(), style=STYLE.get(found.status, "bold red"))
    counts = ", ".join(f"{count} {word(state)}" for state, count in found.counts.items())
    trials = "1 process" if found.trials == 1 else f"{found.trials} processes"
    status.append(f"  {counted(len(found.cells), 'cell')} ({counts}), {trials} each", style="default not bold")
    return Group(first, status)


def conditions(found: Sweep) -> Iterator[RenderableType]:
    """What differs between the published study and this one."""
    published: Any = found.published
    yield Text(f"published: {published['title']}, {published['date']}, {published['source']}")
    gpus = found.machine.get("gpus") or []
    here = f"{found.machine.get('cpu')}, " + (f"{len(gpus)} GPU(s)" if gpus else "no GPU")
    ours = {"hardware": here}
    rows = table("what differs", "published", "here", left=3)
    rows.columns[1].no_wrap = rows.columns[2].no_wrap = False
    for name, words in published["conditions"].items():
        rows.add_row(name, words, ours.get(name, "see the cells' results"))
    yield rows


def word(state: str) -> str:
    """A cell's state for people."""
    return {"to come": "pending", "not here": "cannot run here"}.get(state, state)


def shown(found: Sweep) -> tuple[SweepCell, ...]:
    return found.cells[:MOST_CELLS]


def cells(found: Sweep) -> RenderableType:
    """One line a cell: its speed, what a user sees, and the state where it is not done."""
    quoted = any(cell.published for cell in found.cells)
    energy = any(cell.energy_j_per_token for cell in found.cells)
    columns = ["", "tokens/s", "TTFT", "TPOT", "per user", *(["J/token"] if energy else [])]
    rows = table(*columns, *(["published"] if quoted else []))
    for cell in shown(found):
        if cell.state in ("failed", "refused", "to come") and RATE not in cell.figures:
            rows.add_row(cell.name, word(cell.state), *[""] * (len(rows.columns) - 2), style="dim")
            continue
        figures = [
            interval(cell.figures.get(RATE)),
            seconds(value(cell.figures.get(TTFT))),
            seconds(value(cell.figures.get(TPOT))),
            interval(cell.interactivity),
            *([interval(cell.energy_j_per_token)] if energy else []),
        ]
        told = "; ".join(f"{one.figure}: {one.words}" for one in cell.published)
        rows.add_row(marked(cell), *figures, *([told] if quoted else []))
    return rows


def marked(cell: SweepCell) -> str:
    """A cell's name, its state where it is not done, and the mark of those of which a run is suspect."""
    state = "" if cell.state in ("done", "suspect") else f" ({word(cell.state)})"
    return f"{cell.name}{'*' if cell.suspect else ''}{state}"


def pareto(found: Sweep) -> RenderableType:
    """The cells that may be ranked, by interactivity: which are on the frontier, and which are surely dominated. Of
    very many, those on the frontier and then the first ones."""
    rows = table("", "per user", "per device", "")
    rows.columns[3].justify = "left"
    ranked = [cell for cell in found.cells if cell.frontier is not None]
    chosen = sorted(ranked, key=lambda one: not one.frontier)[:MOST_CELLS]
    for cell in sorted(chosen, key=lambda one: value(one.interactivity) or 0.0):
        words = "frontier" if cell.frontier else beaten(cell) or unbeaten(cell)
        rows.add_row(
            marked(cell),
            interval(cell.interactivity),
            interval(cell.tokens_per_s_per_device),
            words,
            style="bold" if cell.frontier else None,
        )
    return rows


def beaten(cell: SweepCell) -> str:
    """By whom a cell is dominated, in words; nothing where it is not."""
    by = cell.dominated_by
    left = max(cell.dominators or 0, len(by)) - 1  # documents of before have all names and no number
    return f"dominated by {by[0]}{f' and {left} more' if left > 0 else ''}" if by else ""


def unbeaten(cell: SweepCell) -> str:
    """What a cell is that lies below the frontier and is not known to be dominated: without intervals, nothing is."""
    return BELOW if cell.interactivity is None or cell.interactivity.low is None else OPEN


def curves(found: Sweep) -> Iterator[RenderableType]:
    """Throughput at fixed interactivity, a table for each set of levels."""
    tables: dict[tuple[tuple[float, ...], str], Any] = {}
    for curve in found.curves:
        places, loads = tuple(level.interactivity for level in curve.levels), loads_of(found, curve)
        if (places, loads) not in tables:
            tables[places, loads] = table("tokens/s per user:", *(number(place) for place in places))
        tables[places, loads].add_row(
            curve_name(curve),
            *(
                interval(level.tokens_per_s_per_device) if level.state == "between" else level.state
                for level in curve.levels
            ),
        )
    for (places, loads), rows in tables.items():
        if places:
            yield section(f"tokens/s per device at a fixed interactivity, {loads}", rows)


def curve_name(curve: Curve) -> str:
    """What its cells have in common: `vllm, max_batch_size=16`; a name of its own needs no key."""
    words = (f"{path.partition('.')[2]}={value}" if "." in path else str(value) for path, value in curve.at.items())
    return ", ".join(words) or "all"


def loads_of(found: Sweep, curve: Curve) -> str:
    """The loads along a curve: `users-10 to users-100`."""
    at = {cell.name: cell.at for cell in found.cells}
    ends = (at.get(name, {}) for name in (curve.cells[0], curve.cells[-1]))
    return " to ".join(", ".join(str(value) for path, value in end.items() if path not in curve.at) for end in ends)


def interval(one: Estimate | None) -> str:
    """`412 (405 to 419)`, or the value alone where there is no interval."""
    if one is None or one.value is None:
        return NONE
    bounds = ends(one.low, one.high)
    return number(one.value) if bounds == NONE else f"{number(one.value)} ({bounds})"


def value(one: Estimate | None) -> float | None:
    return None if one is None else one.value


def remarks(found: Sweep, whole: bool = False) -> Iterator[str]:
    """How to read the tables. whole: they have all cells."""
    if len(found.cells) > MOST_CELLS and not whole:
        yield (
            f"{MOST_CELLS} of {len(found.cells)} cells: the first ones, and of ranked ones those on the frontier; "
            "document.json lists all of them"
        )
    if any(cell.processes > 2 for cell in found.cells):
        yield "in brackets: 95 % interval of the mean over the trials"
    if found.curves:
        yield (
            "interpolated linearly between measured cells; unreachable: no cell was that fast per user; not measured: "
            "all cells were faster"
        )
    if suspect := sum(cell.suspect for cell in found.cells):
        of = sum(len(cell.runs) for cell in found.cells)
        yield f"*: suspect runs: {suspect} of {of}; innerloop show gives the reasons of each"
    if found.reused:
        yield f"{found.reused} existing runs were reused; --fresh repeats them"


def doubts(found: Sweep) -> Iterator[str]:
    """Why runs are suspect: each reason once, with how many runs and which cells have it."""
    runs = sum(len(cell.runs) for cell in found.cells)
    by_code: dict[str, dict[str, int]] = {}
    for cell in found.cells:
        for code, count in cell.doubts.items():
            by_code.setdefault(code, {})[cell.name] = count
    for code, cells_ in by_code.items():
        text = DOUBTS[code].text if code in DOUBTS else code
        yield f"{text} ({sum(cells_.values())} of {runs} runs: {_some([*cells_])})"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def reasons(found: Sweep) -> Iterator[str]:
    """Why cells failed or were refused: each reason once, with the cells that have it."""
    by_reason: dict[str, list[str]] = {}
    for cell in found.cells:
        for reason in cell.reasons:
            by_reason.setdefault(f"{cell.state}: {reason}", []).append(cell.name)
    for reason, names in by_reason.items():
        yield f"{reason} ({_some(names)})"
