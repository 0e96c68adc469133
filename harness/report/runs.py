"""Runs as a person reads them: a line each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.lists import print_list
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import NONE, assignments, number, visible
from innerloop.harness.result.listing import RunLine

COLUMNS = ("when", "engine", "model", "workload", "set", "label", "status", "tokens/s", "run", "experiment", "why")
OPTIONAL = ("label", "experiment", "why")  # left out where no line has one


def print_runs(lines: Sequence[RunLine], root: str, console: Console | None = None) -> None:
    """Prints runs under their columns; the run's name is its folder in `root`, or in one of those that it names."""
    console = console or PlainConsole()
    if not lines:
        console.out(as_called(f"no matching runs in {root}; create one with innerloop run"))
        return
    empty = [k for k, column in enumerate(COLUMNS) if column in OPTIONAL and not any(row(x)[k] for x in lines)]
    kept = [k for k in range(len(COLUMNS)) if k not in empty]
    rows = [[row(line)[k] or NONE for k in kept] for line in lines]
    print_list(console, [COLUMNS[k] for k in kept], rows, right=("tokens/s",))
    console.out(f"runs in {root}; times in UTC; tokens/s: output tokens per second over the window")


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
