"""Documents on stdout, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from innerloop.harness import __version__

SCHEMA_VERSION = "1.0"  # of the documents that are printed and not kept
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
    print(json.dumps(whole, indent=indent, ensure_ascii=False, allow_nan=False), flush=indent is None)
