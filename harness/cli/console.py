"""The one kind of console: nothing that is printed is markup, and nothing of it acts on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from innerloop.harness.cli.words import printable


class PlainConsole(Console):
    """Prints texts as they are, whoever wrote them: `[bold]` and `:smile:` stay what they are, and control characters
    are escaped. Colours come from styles alone.

    Strings are escaped before they are laid out, so that columns have their room; whatever else there is, on its way
    out, so that nothing passes by.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))
