"""Lists on a terminal: a table for a person, plain aligned columns for a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from innerloop.harness.cli.words import visible

if TYPE_CHECKING:
    from rich.console import Console

UNBROKEN = 30  # letters: a column of times, sizes and words is never broken, one of paths and sentences is


def print_list(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> None:
    """Prints rows under their columns; those named in `right` are aligned right. Piped lines are never broken, and
    control characters, a newline in a folder's name too, are escaped."""
    rows = [[visible(cell) for cell in row] for row in rows]
    if console.is_terminal:
        from innerloop.harness.cli.tables import FittedTable

        table = FittedTable()
        for place, column in enumerate(columns):
            short = all(len(row[place]) <= UNBROKEN for row in rows)
            table.add_column(column, justify="right" if column in right else "left", no_wrap=short)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(len(row[k]) for row in [columns, *rows]) for k in range(len(columns))]
    for row in [columns, *rows]:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        console.out("  ".join(cells).rstrip())
