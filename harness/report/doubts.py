"""What stands against a run as a person reads it: doubts about its figures, notes, or its failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.result.codes import is_note, makes_suspect
from innerloop.harness.schema.reasons import Failure, Reason
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.waterfall import RunReason


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


def kinds(runs: Sequence[Sequence[RunReason]]) -> Iterator[str]:
    """A line for each kind of doubt about several runs, of which `runs` has the reasons: what was observed in the first
    run that has it, and how many have it."""
    found: dict[str, list[str]] = {}
    for reasons in runs:
        first: dict[str, str] = {}
        for reason in reasons:
            first.setdefault(reason.code, reason.detail)
        for code, detail in first.items():
            if not is_note(code):
                found.setdefault(code, []).append(detail)
    for details in found.values():
        yield details[0] + (f" ({len(details)} of {len(runs)} runs)" if len(runs) > 1 else "")


def failure(result: Result, why: Failure) -> RenderableType:
    """Why the run failed, what to do, and the last words of the engine."""
    text = Text(why.message, style="bold")
    if why.exit is not None:
        text.append(f"\nthe worker {ended(why.exit)}", style="default not bold")
    advice = next((reason.advice for reason in result.reasons if reason.code == why.cause), None)
    if advice:
        text.append(f"\n{as_called(advice)}", style="default not bold")
    for title, lines in (("traceback", why.traceback), ("end of engine.log", before_traceback(why))):
        if lines:
            text.append(f"\n\n{title}\n", style="cyan not bold")
            text.append("\n".join(lines), style="dim not bold")
    title = result.status if result.status == "interrupted" else f"failed: {why.cause}"
    return Group(Text(""), Panel(text, title=Text(title), title_align="left", border_style="red"))


def ended(code: int) -> str:
    """What an exit code says, as the end of a sentence; negative: the signal."""
    return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"


def before_traceback(why: Failure) -> Sequence[str]:
    """The end of engine.log, without the traceback if it ends with the one that the worker has told."""
    both = min(len(why.traceback), len(why.log_tail))
    same = both and why.traceback[-both:] == why.log_tail[-both:]
    return why.log_tail[:-both] if same else why.log_tail
