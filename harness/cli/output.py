"""What goes to stdout and stderr but for reports: documents as JSON, lines, and what went wrong."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from innerloop.harness import __version__
from innerloop.harness.cli.errors import Refused, told
from innerloop.harness.cli.secrets import hidden
from innerloop.harness.cli.words import BIDI, printable, visible

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = "1.0"  # of the documents that are printed and not kept
# What JSON may hold as it is, and a terminal or a CI system (`##[error]`) would act on.
UNPRINTABLE = re.compile(f"[\x7f-\x9f\u2028\u2029\ud800-\udfff{BIDI}]|#(?=#[a-z]*\\[)")
STDOUT = Path("-")  # as other tools call it; here it would be a file of that name
HEADER = ("kind", "schema_version", "innerloop_version")


def print_json(document: Mapping[str, Any], kind: str | None = None, *, indent: int | None = 2) -> None:
    """Prints one document and nothing else: an object that says what it is, of which version, by which innerloop.

    kind: what a document that does not say so is. indent: None puts it on one line, which is written at once, for a
    reader that follows.

    Raises:
        ValueError: it holds a number that JSON has no word for (NaN, infinity), or does not say what it is.
    """
    header = {"kind": kind, "schema_version": SCHEMA_VERSION, "innerloop_version": __version__} if kind else {}
    whole = {**header, **document}
    if lost := [name for name in HEADER if name not in whole]:
        raise ValueError(f"a document without {', '.join(lost)}")
    text = json.dumps(whole, indent=indent, ensure_ascii=not _is_unicode(sys.stdout.encoding), allow_nan=False)
    print(UNPRINTABLE.sub(lambda one: f"\\u{ord(one[0]):04x}", text), flush=indent is None)


def _is_unicode(encoding: str | None) -> bool:
    """Whether an encoding has all letters; others get JSON's own escapes, which say the same."""
    return (encoding or "utf-8").lower().replace("_", "-").startswith("utf")


def say(*lines: str, file: TextIO | None = None) -> None:
    """Prints lines, whoever wrote them, on stdout or another stream, at once: nothing in them acts on the terminal."""
    print(*map(printable, lines), sep="\n", file=file, flush=True)


def tell(line: str, *details: str) -> None:
    """What went wrong, on stderr, and what to do about it, a line each, without credentials; a terminal that is gone
    takes nothing from the work."""
    with suppress(OSError, ValueError):
        lines = [visible(hidden(one), keep="\t") for one in (f"innerloop: {line}", *(f"  {one}" for one in details))]
        print(printable("\n".join(lines)), file=sys.stderr, flush=True)


def refuse_one_file_twice(files: Sequence[tuple[str, Path | None]]) -> None:
    """Raises: Refused: two of the flags name one file, by whatever paths, so that the second would replace what the
    first has written."""
    seen: dict[str, str] = {}
    for flag, path in files:
        if path is not None and (other := seen.setdefault(os.path.realpath(path), flag)) != flag:
            raise Refused(f"{other} and {flag} name the same file, {path}")


@contextmanager
def printing(folder: Path, console: Console) -> Iterator[None]:
    """Around the printing of what lies in a folder already: where it fails, that is said, and nothing else changes."""
    try:
        yield
    except Exception as error:
        console.print(f"the result could not be printed ({told(error)}); it is in {folder}")
