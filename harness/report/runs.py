"""Runs as a person reads them: a line each, or a few on a terminal that is too narrow for the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.lists import print_list
from innerloop.harness.cli.secrets import hidden
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import NONE, assignments, number, visible
from innerloop.harness.result.listing import RunLine

COLUMNS = ("when", "engine", "model", "workload", "set", "label", "status", "tokens/s", "run", "experiment", "why")
OPTIONAL = ("label", "experiment", "why")  # left out where no line has one
MOST_FOLDED = 1.5  # a table this many times as wide as the terminal has cells of a few letters a line


def print_runs(lines: Sequence[RunLine], root: str, console: Console | None = None) -> None:
    """Prints runs under their columns; the run's name is its folder in `root`, or in one of those that it names."""
    console = console or PlainConsole()
    if not lines:
        console.out(as_called(hidden(f"no matching runs in {visible(str(root))}; create one with innerloop run")))
        return
    empty = [k for k, column in enumerate(COLUMNS) if column in OPTIONAL and not any(row(x)[k] for x in lines)]
    kept = [k for k in range(len(COLUMNS)) if k not in empty]
    rows = [[row(line)[k] or NONE for k in kept] for line in lines]
    columns = [COLUMNS[k] for k in kept]
    width = sum(2 + max(len(cells[k]) for cells in [columns, *rows]) for k in range(len(columns)))
    if console.is_terminal and width > MOST_FOLDED * console.width:
        for line in lines:
            _print_block(console, dict(zip(COLUMNS, row(line), strict=True)))
    else:
        print_list(console, columns, rows, right=("tokens/s",))
    console.out(f"runs in {root}; times in UTC; tokens/s: output tokens per second over the window")


def _print_block(console: Console, cells: dict[str, str]) -> None:
    """A run's name, and below it what is known of it."""
    speed = cells["tokens/s"] and f"{cells['tokens/s']} tokens/s"
    console.print(Text(cells["run"], style="bold", overflow="fold"))
    for words in (
        [cells[name] for name in ("when", "engine", "model", "workload")],
        [cells["status"], speed, cells["set"], cells["label"]],
        [cells["experiment"]],
        [cells["why"]],
    ):
        if any(words):
            console.print(Padding(Text(" · ".join(filter(None, words)), overflow="fold"), (0, 0, 0, 2), expand=False))


def row(line: RunLine) -> tuple[str, ...]:
    """The cells of a run, empty where nothing is known."""
    engine = " ".join(filter(None, (line.engine, line.version, ",".join(line.layers))))
    speed = line.output_tokens_per_s
    cells = (
        line.when[:16].replace("T", " "),
        engine,
        line.model or "",
        line.workload or "",
        assignments(line.given),
        assignments(line.label),
        line.status,
        "" if speed is None else number(speed),
        Path(line.folder).name,
        line.experiment or "",
        as_called(line.reason or ""),
    )
    return tuple(map(visible, cells))
