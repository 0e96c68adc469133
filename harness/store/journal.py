"""An experiment's journal: a line an event, appended and on the disk before the next thing happens."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.schema.experiment import Event

FILE = "journal.jsonl"


def append(folder: Path, *events: Event) -> None:
    """Adds a line each; they are on the disk when this returns. What a kill left of a line before them is ended first.

    Raises:
        OSError: it cannot be written.
    """
    line = b"".join(json.dumps(asdict(event), ensure_ascii=False, allow_nan=False).encode() + b"\n" for event in events)
    with open(folder / FILE, "a+b") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def events(folder: Path, typed: Callable[[type[Event], Any], Event]) -> list[Event]:
    """Every event, in order. A line that a kill cut off says nothing: what it was about is run again.

    `typed` checks one line's data.

    Raises:
        Refused: the journal cannot be read, or a whole line is no event.
    """
    path = folder / FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    out = []
    for number, line in enumerate(lines, 1):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            continue  # empty, or cut off
        try:
            out.append(typed(Event, data))
        except ValueError as error:
            raise Refused(f"{path}, line {number}, is not an event: {str(error)[:200]}") from None
    return out
