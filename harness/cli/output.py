"""Documents on stdout, as JSON."""

from __future__ import annotations

import json
from typing import Any


def print_json(document: Any, *, indent: int | None = 2, ascii: bool = False) -> None:
    """Prints one document and nothing else.

    indent: None puts it on one line, which is written at once, for a reader that follows. ascii: escape other letters.

    Raises:
        ValueError: it holds a number that JSON has no word for (NaN, infinity).
    """
    print(json.dumps(document, indent=indent, ensure_ascii=ascii, allow_nan=False), flush=indent is None)
