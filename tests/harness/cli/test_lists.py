"""A list is a table on a terminal and plain columns in a pipe."""

from __future__ import annotations

import io

import pytest

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.lists import print_list

ROWS = [("vllm", "2 GiB"), ("a name that is much longer than any terminal is wide " * 3, "1 KiB")]


def test_a_pipe_gets_one_aligned_line_a_row() -> None:
    out = io.StringIO()
    print_list(
        PlainConsole(file=out, width=40), ("name", "size"), [("vllm", "2 GiB"), ("torch", "907 MiB")], right=("size",)
    )
    assert out.getvalue().splitlines() == ["name      size", "vllm     2 GiB", "torch  907 MiB"]


def test_long_cells_are_never_broken_in_a_pipe() -> None:
    out = io.StringIO()
    print_list(PlainConsole(file=out, width=40), ("name", "size"), ROWS)
    assert len(out.getvalue().splitlines()) == 3
    assert ROWS[1][0].strip() in out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_newline_in_a_cell_breaks_no_row(terminal: bool) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=60, force_terminal=terminal, color_system=None)
    print_list(console, ("name", "size"), [("a\nb\t\x1b[31mc", "1"), ("d", "2")], right=("size",))
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["name", "size"],
        ["a\\nb\\t\\x1b[31mc", "1"],
        ["d", "2"],
    ]


def test_a_terminal_gets_a_table_that_fits_and_takes_no_markup_from_cells() -> None:
    out = io.StringIO()
    print_list(
        PlainConsole(file=out, width=40, force_terminal=True, color_system=None), ("name", "size"), [("[red]x", "1")]
    )
    assert [line.split() for line in out.getvalue().splitlines()] == [["name", "size"], ["[red]x", "1"]]
    assert all(len(line) <= 40 for line in out.getvalue().splitlines())


def test_a_terminal_never_breaks_a_time_or_a_name() -> None:
    out = io.StringIO()
    name, made = "openvino-cpu-7048804d9b19", "2026-11-29 06:00"
    print_list(
        PlainConsole(file=out, width=60, force_terminal=True, color_system=None),
        ("name", "state", "created", "last used"),
        [(name, "ready", made, made), ("same", "registered", made, "-")],
    )
    assert out.getvalue().splitlines() == [
        "name                       state       created",
        f"{name}  ready       {made}",
        f"same                       registered  {made}",
        "",
        "name                       last used",
        f"{name}  {made}",
        "same                       -",
    ]
