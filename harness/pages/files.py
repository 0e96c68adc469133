"""What pages are written to: an HTML file, pictures, Markdown."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from innerloop.harness import __version__
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.output import STDOUT, refuse_one_file_twice
from innerloop.harness.pages.document import html
from innerloop.harness.pages.library import converter, write_pictures
from innerloop.harness.pages.markdown import markdown
from innerloop.harness.pages.parts import Page
from innerloop.harness.store.atomic import write_text


def check(files: Sequence[tuple[str, Path | None]], folders: Sequence[tuple[str, Path | None]]) -> None:
    """Before anything is read or run: that what is asked for can be written, by flag and path.

    Raises:
        Refused: the chart library is missing, a path is none that could be written, or two are one.
    """
    for flag, path in files:
        if path == STDOUT:
            raise Refused(f"{flag}: stdout is not supported; name a file")
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise Refused(f"{flag}: {path} is a folder, or its folder does not exist")
        if path is not None and not os.access(path.absolute().parent, os.W_OK):
            raise Refused(f"{flag}: {path.absolute().parent} may not be written to", f"{flag} names a file elsewhere")
    refuse_one_file_twice(files)
    for flag, path in folders:
        if path is not None and path.exists() and not path.is_dir():
            raise Refused(f"{flag}: {path} is a file; name a folder")
    if any(path is not None for flag, path in (*files, *folders) if flag != "--markdown"):
        converter()


def write_html(path: Path, pages: Sequence[Page]) -> None:
    """
    Raises:
        Refused: the chart library is missing. OSError: it cannot be written.
    """
    moment = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    write_text(path, html(pages, f"Made by innerloop {__version__}, {moment}. Charts: Vega-Lite."), contended=True)


def pictures(pages: Sequence[Page], folder: Path, kind: str) -> dict[str, Path]:
    """Draws every chart as `kind`, png or svg; the files' paths by `page name/chart name`. Of several pages each has a
    folder of its own.

    Raises:
        Refused: the chart library is missing.
    """
    found = {}
    for number, page in enumerate(pages):
        inside = folder if len(pages) == 1 else folder / f"{number}-{safe(page.name)}"
        charts = [replace(chart, name=safe(chart.name)) for chart in page.charts()]
        for chart, path in zip(page.charts(), write_pictures(charts, inside, kind), strict=True):
            found[f"{page.name}/{chart.name}"] = path
    return found


def write_markdown(path: Path, pages: Sequence[Page], drawn: dict[str, Path]) -> None:
    """Tables, and the pictures that were drawn, by their paths from the file's folder.

    Raises:
        OSError: it cannot be written.
    """
    near = {name: os.path.relpath(one, path.absolute().parent) for name, one in drawn.items()}
    write_text(path, markdown(pages, near), contended=True)


def safe(name: str) -> str:
    """A name as a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80].strip("-.") or "page"
