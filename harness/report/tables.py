"""What reports are put together from: tables without lines, and titled sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.text import Text

from innerloop.harness.cli.tables import FittedTable
from innerloop.harness.cli.words import levels

LEAST_BARS = 10
ALIGNED = (18, 9)  # least widths that put the tables of a run's report under each other


def table(
    *columns: str, left: int = 1, gap: int = 2, least: tuple[int | None, int | None] = (None, None), header: bool = True
) -> FittedTable:
    """A table without lines; the first `left` columns are aligned left, the others right, and none breaks its words.

    gap: spaces between columns. least: width of the first column and of the others. header: show the columns' names.
    """
    out = FittedTable(gap, show_header=header)
    for place, column in enumerate(columns):
        width = least[0] if place == 0 else least[1]
        out.add_column(column, justify="left" if place < left else "right", no_wrap=True, min_width=width)
    return out


@dataclass(frozen=True, slots=True)
class Bars:
    """A row of bars, one a value; where there is less room, each stands for the mean of several. None: no bar."""

    values: Sequence[float | None]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(LEAST_BARS, len(self.values)), len(self.values)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        many = -(-len(self.values) // options.max_width)
        groups = [self.values[k : k + many] for k in range(0, len(self.values), many)]
        known = [[one for one in group if one is not None] for group in groups]
        means = [sum(group) / len(group) if group else None for group in known]
        yield Text(levels(means), style="cyan")


@dataclass(frozen=True, slots=True)
class Clauses:
    """A text that is broken behind its commas, so that a number and its unit stay on one line where there is room."""

    text: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        words = max(map(cell_len, self.text.split()), default=0)
        return Measurement(words, cell_len(self.text)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        *others, last = self.text.split(", ")
        lines = [""]
        for clause in (*(f"{one}," for one in others), last):
            longer = f"{lines[-1]} {clause}".lstrip()
            if not lines[-1] or cell_len(longer) <= options.max_width:
                lines[-1] = longer
            else:
                lines.append(clause)
        yield Text("\n".join(lines), overflow="fold")


def section(title: str, content: RenderableType) -> RenderableType:
    """An empty line, a title, and below it the content, set in."""
    return Group(Text(""), Text(title, style="bold cyan"), Padding(content, (0, 0, 0, 2), expand=False))
