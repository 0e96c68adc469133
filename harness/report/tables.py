"""What reports are put together from: tables without lines, and titled sections."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

ALIGNED = (18, 9)  # least widths that put the tables of a run's report under each other


def table(
    *columns: str, left: int = 1, gap: int = 2, least: tuple[int | None, int | None] = (None, None), header: bool = True
) -> Table:
    """A table without lines; the first `left` columns are aligned left, the others right, and none breaks its words.

    gap: spaces between columns. least: width of the first column and of the others. header: show the columns' names.
    """
    out = Table(box=None, padding=(0, gap, 0, 0), header_style="dim", pad_edge=False, show_header=header)
    for place, column in enumerate(columns):
        width = least[0] if place == 0 else least[1]
        out.add_column(column, justify="left" if place < left else "right", no_wrap=True, min_width=width)
    return out


def section(title: str, content: RenderableType) -> RenderableType:
    """An empty line, a title, and below it the content, set in."""
    return Group(Text(""), Text(title, style="bold cyan"), Padding(content, (0, 0, 0, 2), expand=False))
