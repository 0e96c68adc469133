"""Reports on a narrow console."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from innerloop.harness.cli.console import report_console

WORDS = "measured 1\u202f933 tokens"


def lines(console: Console, file: io.StringIO, what: RenderableType) -> list[str]:
    console.width = 12
    console.print(what)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def in_table() -> Table:
    table = Table.grid()
    table.add_row(WORDS)
    return table


@pytest.mark.parametrize("what", [WORDS, Text(WORDS, style="bold"), in_table()])
def test_no_line_is_broken_inside_a_number(what: RenderableType) -> None:
    file = io.StringIO()
    assert lines(report_console(file=file), file, what) == ["measured", "1\u202f933 tokens"]


def test_rich_itself_would_break_it() -> None:
    file = io.StringIO()
    assert lines(Console(file=file), file, WORDS)[0] == "measured 1"
