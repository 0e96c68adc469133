"""Tables that keep every cell: on a terminal that is too narrow, texts wrap, then columns go below each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from innerloop.harness.cli.words import visible

WRAPPED = 24  # columns: a text wraps at least so wide, or as wide as its longest word
MOST_PARTS = 3  # tables that one may become; beyond that each row gets lines of its own
ANY_WIDTH = 10_000


class FittedTable(Table):
    """A table without lines. Columns with `no_wrap` are never cut or broken, the others wrap where they must.

    Where that is still too wide, the table becomes up to MOST_PARTS tables, one below the other, which all begin with
    the first column; else a row is its first cell, and below it a line a column.
    """

    def __init__(self, gap: int = 2, **options: Any) -> None:
        super().__init__(box=None, padding=(0, gap, 0, 0), header_style="dim", pad_edge=False, **options)
        self.gap = gap

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Adds a row. In a text every control character is escaped: a row never has more lines than it needs."""
        super().add_row(*(visible(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        columns = [_Measured(column, self, console, options) for column in self.columns]
        if self._total([max(one.natural, one.aligned) for one in columns]) + self.gap <= width:
            yield from super().__rich_console__(console, options)
        elif self._total([max(one.least, one.aligned) for one in columns]) <= width:
            yield from self._part(columns, [max(one.least, one.aligned) for one in columns], console, options)
        elif self._total([one.least for one in columns]) <= width:
            yield from self._part(columns, [one.least for one in columns], console, options)
        elif (parts := self._parts(columns, width)) is not None:
            for place, part in enumerate(parts):
                yield from [Text("")] if place else []
                yield from self._part(part, [one.least for one in part], console, options)
        else:
            yield from self._lines(console)

    def _total(self, widths: Sequence[int]) -> int:
        return sum(widths) + self.gap * (len(widths) - 1)

    def _parts(self, columns: Sequence[_Measured], width: int) -> list[list[_Measured]] | None:
        """The columns of each table; None where there would be too many."""
        first, *others = columns
        parts: list[list[_Measured]] = []
        for column in others:
            if parts and self._total([one.least for one in (*parts[-1], column)]) <= width:
                parts[-1].append(column)
            else:
                parts.append([first, column])
        fit = all(self._total([one.least for one in part]) <= width for part in parts)
        return parts if fit and len(parts) <= MOST_PARTS else None

    def _part(
        self, columns: Sequence[_Measured], widths: list[int], console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """A table of some of the columns, which are at least so wide; those that wrap get what room is left."""
        left = options.max_width - self._total(widths)
        wanting = sorted(range(len(columns)), key=lambda k: columns[k].natural - widths[k])
        for done, k in enumerate(wanting):
            more = min(max(columns[k].natural - widths[k], 0), left // (len(columns) - done))
            widths[k], left = widths[k] + more, left - more
        out = Table(
            box=None,
            padding=self.padding,
            header_style=self.header_style,
            pad_edge=False,
            show_header=self.show_header and any(one.column.header for one in columns),
        )
        for one, wide in zip(columns, widths, strict=True):
            out.add_column(
                one.column.header, justify=one.column.justify, style=one.column.style, width=wide, overflow="fold"
            )
        for row, cells in zip(self.rows, zip(*(one.cells for one in columns), strict=True), strict=True):
            out.add_row(*cells, style=row.style)
        yield from console.render(out, options.update_width(options.max_width + self.gap))  # blank behind the last one

    def _lines(self, console: Console) -> Iterator[RenderableType]:
        """Each row as lines: its first cell, and below it every other one that holds something, with its column."""
        title = self.columns[0].header
        if self.show_header and title:
            yield console.render_str(title, style="dim") if isinstance(title, str) else title
        for row, cells in zip(self.rows, zip(*(one.cells for one in self.columns), strict=True), strict=True):
            if first := cells[0]:
                yield console.render_str(first, style=row.style or "") if isinstance(first, str) else first
            below = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
            below.add_column(style="dim", overflow="fold")
            below.add_column(overflow="fold", ratio=1)
            for column, cell in zip(self.columns[1:], cells[1:], strict=True):
                if cell:
                    below.add_row(column.header if self.show_header else "", cell, style=row.style)
            if below.row_count:
                yield Padding(below, (0, 0, 0, 2), expand=False)


class _Measured:
    """A column's widths. natural: of its widest cell; least: what it may shrink to; aligned: what it is to have."""

    def __init__(self, column: Column, table: FittedTable, console: Console, options: ConsoleOptions) -> None:
        self.column, self.cells = column, [*column.cells]
        wide = options.update(max_width=ANY_WIDTH)
        shown = [*self.cells, *([column.header] if table.show_header else [])]
        found = [Measurement.get(console, wide, cell) for cell in shown]
        self.natural = min(max((one.maximum for one in found), default=0), column.max_width or ANY_WIDTH)
        self.aligned = column.min_width or 0
        words = min(max((one.minimum for one in found), default=0), WRAPPED)
        self.least = self.natural if column.no_wrap else min(self.natural, words)
