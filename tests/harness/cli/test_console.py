"""Whatever is printed, by whatever way, is text."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from innerloop.harness.cli.arguments import command_line
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.lists import print_list
from tests.real import ROOT

HOSTILE = "x\x1b[31m\x1b]0;t\x07\x9b2J\x7f\u202e\u2028[bold]b[/bold][/INST]:smile:\r"
SHOWN = re.compile(  # rich drops a bell and a carriage return
    r"x\\x1b\[31m\\x1b\]0;t(\\x07)?\\x9b2J\\x7f\\u202e\\u2028\[bold\]b\[/bold\]\[/INST\]:smile:"
)


def cell() -> Table:
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE, style="red")
    return table


@pytest.mark.parametrize(
    "show",
    [
        lambda console: console.print(HOSTILE),
        lambda console: console.print(HOSTILE, style="red"),
        lambda console: console.print(Text(HOSTILE, style="bold")),
        lambda console: console.out(HOSTILE),
        lambda console: console.print(cell()),
        lambda console: console.print(Panel(Text(HOSTILE), title=Text(HOSTILE))),
        lambda console: console.print(Group(Text(HOSTILE), HOSTILE)),
        lambda console: console.rule(HOSTILE),
        lambda console: console.print(Rule(HOSTILE)),
        lambda console: print_list(console, ("name",), [(HOSTILE,)]),
        lambda console: Live(HOSTILE, console=console, auto_refresh=False).start(refresh=True),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_texts_of_others_are_printed_as_they_are(show: Callable[[Any], object], terminal: bool) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=terminal, color_system="truecolor" if terminal else None, width=200)
    show(console)
    own = r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]"  # colours, and the cursor of a live view
    shown = re.sub(own, "", out.getvalue()) if terminal else out.getvalue()
    assert SHOWN.search(shown) or not shown.strip()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]", shown)


def test_a_refused_argument_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line("show", "Print.", "").parse_args([f"--{HOSTILE}"])
    told = capsys.readouterr().err
    assert "\\x1b[31m" in told
    assert "\x1b" not in told


PRINTING = ("print", "Console", "Text.from_markup", "sys.stdout.write", "sys.stderr.write")


def test_nothing_is_printed_past_the_console_and_the_functions_of_output() -> None:
    past = []
    for path in sorted((ROOT / "harness").rglob("*.py")):
        if path.parent.name == "cli" and path.name in ("output.py", "console.py"):
            continue
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if any(f"{name}(" in text for name in (*PRINTING, "Panel")) else ():
            if isinstance(node, ast.Call):
                where, name = f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func)
                if name in PRINTING:
                    past.append(f"{where}: {name}")
                if name == "Panel":  # rich reads markup in a title that is no Text, whatever the console says
                    titles = [one.value for one in node.keywords if one.arg in ("title", "subtitle")]
                    past += [f"{where}: {name}" for title in titles if "Text(" not in ast.unparse(title)]
    assert past == []


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
    assert lines(PlainConsole(file=file), file, what) == ["measured", "1\u202f933 tokens"]


def test_rich_itself_would_break_it() -> None:
    file = io.StringIO()
    assert lines(Console(file=file), file, WORDS)[0] == "measured 1"


@pytest.mark.parametrize("colours", [None, "truecolor"])
def test_no_line_ends_in_blanks(colours: Any) -> None:
    rows = Table("left", "right", box=None)
    rows.add_row("a", "b")
    rows.add_row(Text("longer", style="bold"), "")
    file = io.StringIO()
    console = PlainConsole(file=file, width=40, color_system=colours, force_terminal=colours is not None)
    console.print(Group(Padding(rows, (1, 4)), Text("dim  ", style="dim"), Text("")))
    console.print("two  words  ")
    plain = re.sub("\x1b\\[[0-9;]*m", "", file.getvalue())
    assert plain.split("\n") == [
        "",
        "     left    right",
        "     a       b",
        "     longer",
        "",
        "dim",
        "",
        "two  words",
        "",
    ]
    console.print("open ", end="")
    assert file.getvalue().endswith("open ")
