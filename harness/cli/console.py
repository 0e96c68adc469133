"""The console that reports are printed on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from innerloop.harness.cli.words import THOUSANDS

HELD = "\ue000"  # of one cell, and no space to rich, which breaks lines at every kind of space


class ReportConsole(Console):
    """Breaks no line between the thousands of a number."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, str):
            renderable = renderable.replace(THOUSANDS, HELD)
        elif isinstance(renderable, Text) and THOUSANDS in renderable.plain:
            renderable = renderable.copy()
            renderable.plain = renderable.plain.replace(THOUSANDS, HELD)
        for segment in super().render(renderable, options):
            yield segment._replace(text=segment.text.replace(HELD, THOUSANDS)) if HELD in segment.text else segment


def report_console(*, file: IO[str] | None = None, highlight: bool = True, quiet: bool = False) -> Console:
    """One on stdout, or on `file`."""
    return ReportConsole(file=file, highlight=highlight, quiet=quiet)
