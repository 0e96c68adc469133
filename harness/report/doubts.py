"""What stands against a run as a person reads it: doubts about its figures, notes, or its failure."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.result.codes import makes_suspect
from innerloop.harness.schema.reasons import Failure, Reason
from innerloop.harness.schema.result import Result


def warnings(result: Result) -> list[RenderableType]:
    """What makes the figures doubtful, each with what to do about it; then remarks."""
    out: list[RenderableType] = []
    if result.status == "suspect":
        out.append(Text(""))
        out += [line for reason in result.reasons if makes_suspect(reason) for line in doubt(reason)]
    notes = [*(reason.detail for reason in result.reasons if reason.severity == "note"), *result.notes]
    if notes:
        out.append(Text(""))
        out += [Text(f"note: {as_called(note)}", style="dim") for note in notes]
    return out


def aside(result: Result) -> list[RenderableType]:
    """What makes only the devices' own figures doubtful, such as their energy; it leaves the run what it is."""
    known = (reason for reason in result.reasons if reason.severity != "note" and not makes_suspect(reason))
    return [line for reason in known for line in doubt(reason)]


def doubt(reason: Reason) -> Iterator[RenderableType]:
    """What was seen, and what to do about it."""
    line = Text("! ", style="bold yellow")
    line.append(reason.detail, style="yellow")
    yield line
    if reason.advice:
        yield Padding(Text(as_called(reason.advice), style="dim"), (0, 0, 0, 2))


def failure(result: Result, why: Failure) -> RenderableType:
    """Why the run failed, what to do, and the last words of the engine."""
    text = Text(why.message, style="bold")
    if why.exit is not None:
        text.append(f"\nexit {why.exit}", style="default not bold")
    advice = next((reason.advice for reason in result.reasons if reason.code == why.cause), None)
    if advice:
        text.append(f"\n{advice}", style="default not bold")
    for title, lines in (("traceback", why.traceback), ("end of engine.log", why.log_tail)):
        if lines:
            text.append(f"\n\n{title}\n", style="cyan not bold")
            text.append("\n".join(lines), style="dim not bold")
    title = result.status if result.status == "interrupted" else f"failed: {why.cause}"
    return Group(Text(""), Panel(text, title=Text(title), title_align="left", border_style="red"))
