"""The one kind of console: nothing that is printed is markup, and nothing of it acts on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from innerloop.harness.cli.words import THOUSANDS, printable

HELD = "\ue000"  # of one cell and no space, while lines are broken: rich does so at every kind of space


class PlainConsole(Console):
    """Prints texts as they are, whoever wrote them: `[bold]` and `:smile:` stay what they are, and control characters
    are escaped. Colours come from styles alone. No line is broken between the thousands of a number, or ends in blanks.

    Strings are escaped before they are laid out, so that columns have their room; whatever else there is, on its way
    out, so that nothing passes by.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})
        self._depth = 0  # of renderables in each other

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text).replace(THOUSANDS, HELD), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text) and THOUSANDS in renderable.plain:
            renderable = renderable.copy()
            renderable.plain = renderable.plain.replace(THOUSANDS, HELD)
        self._depth += 1
        try:
            found = super().render(renderable, options)
            yield from found if self._depth > 1 else without_blanks_at_ends(map(_shown, found))
        finally:
            self._depth -= 1


def _shown(segment: Segment) -> Segment:
    return segment if segment.control else segment._replace(text=printable(segment.text.replace(HELD, THOUSANDS)))


def without_blanks_at_ends(segments: Iterable[Segment]) -> Iterator[Segment]:
    """The same, without what is blank before the end of a line."""
    blank: list[Segment] = []
    for segment in segments:
        if segment.control:
            yield segment
            continue
        for line in segment.text.splitlines(keepends=True):
            ended = line.endswith("\n")
            text = line.rstrip(" \n") if ended else line
            if text.strip(" "):
                yield from blank
                blank = []
                seen = text.rstrip(" ")
                yield segment._replace(text=seen)
                text = text[len(seen) :]
            if ended:
                blank = []
                yield segment._replace(text="\n")
            elif text:
                blank.append(segment._replace(text=text))
    yield from blank
