"""Documents: plain data, written as strict JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from innerloop.harness.cli.reading import LARGEST
from innerloop.harness.store.atomic import write_text

INDENTED = 1 << 19  # characters of a document that a person may still read


def write_document(path: Path, document: Mapping[str, Any], *, contended: bool = False) -> None:
    """Writes a document whole or not at all; a large one without line breaks, which take longer than all the rest.
    `contended`: as of `whole`.

    Raises:
        OSError: it cannot be written.
    """
    whole = plain(document)
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    if len(text) <= INDENTED:
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", contended=contended)


def plain(value: Any) -> Any:
    """The same data as JSON's own types; a number that JSON has no word for (NaN, infinity) becomes None, a whole one
    of more than 64 bits a fraction: as a whole one it would not be read again."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if abs(value) <= LARGEST else _fraction(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is str and value.isascii():
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if type(value).__module__ == "numpy":  # which is not imported for documents without
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair is no UTF-8


def _fraction(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None
