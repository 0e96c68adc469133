"""Help as wide as the terminal, at most MOST: paragraphs are filled, commands broken as a shell reads them."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

MOST = 100  # columns
LEAST = 40
COLUMNS = re.compile(r"(\s+\S.*?)( {2,})(\S.*)")
CODE = re.compile(r"(\s+\d+)( +)(\S.*)")
COMMAND = re.compile(r"\s+(?:innerloop|python|-)")
WORD = re.compile(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+")
BESIDE = 24  # columns of what is explained, above which its explanation goes below it


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Lines that are set in stay lines of their own; all others belong to the paragraph that they stand in."""

    def __init__(self, prog: str, **options: Any) -> None:
        options.setdefault("width", columns())
        super().__init__(prog, **options)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent("\n".join(filled(text, width - len(indent))), indent)


def columns() -> int:
    """How wide help is."""
    return max(min(shutil.get_terminal_size().columns, MOST), LEAST) - 2


def filled(text: str, width: int) -> list[str]:
    """The lines of a help text."""
    return [*_filled(text, width)][:-1]  # without the empty one that ends the last paragraph


def _filled(text: str, width: int) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line and not line[0].isspace():
            paragraph.append(line)
            if not line.endswith(":"):
                continue
        if paragraph:
            yield from textwrap.wrap(" ".join(paragraph), width, break_on_hyphens=False, break_long_words=False)
            paragraph = []
            if line and not line[0].isspace():
                continue
        yield from set_in(line, width)


def set_in(line: str, width: int) -> Iterator[str]:
    """A line that stands alone, in as many as it takes."""
    if len(line) <= width:
        yield line
        return
    depth = len(line) - len(line.lstrip())
    if (found := CODE.fullmatch(line) or COLUMNS.fullmatch(line)) is not None:
        what, gap, told = found.groups()
        place = len(what) + len(gap)
        if place <= BESIDE:
            first, *more = textwrap.wrap(told, width - place, break_on_hyphens=False)
            yield f"{what}{gap}{first}"
            yield from (" " * place + one for one in more)
            return
        yield from set_in(what, width)
        yield from wrapped(told, depth + 4, width)
    elif COMMAND.match(line):
        yield from broken(line, depth, width)
    else:
        yield from wrapped(line.strip(), depth, width)


def wrapped(text: str, depth: int, width: int) -> list[str]:
    blank = " " * depth
    return textwrap.wrap(text, width, initial_indent=blank, subsequent_indent=blank, break_on_hyphens=False)


def broken(line: str, depth: int, width: int) -> Iterator[str]:
    """A command in several lines, each but the last with a backslash at its end; an option stays with its value."""
    words = WORD.findall(line)
    more = depth if words[0].startswith("-") else depth + 4
    now = " " * depth
    for place, word in enumerate(words):
        value = next(iter(words[place + 1 :]), "-")
        whole = f"{word} {value}" if word.startswith("-") and value[0] not in "-\\" else word
        if len(whole) + more + 2 > width:
            whole = word
        if word == "\\":
            now += " \\"
        elif place and len(now) + len(whole) + 3 > width:
            yield f"{now} \\"
            now = " " * more + word
        else:
            now += f" {word}" if place else word
    yield now
