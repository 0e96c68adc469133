"""An experiment's journal: a line an event, appended and on the disk before the next thing happens."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import open_regular, whole_number
from innerloop.harness.schema.experiment import Event
from innerloop.harness.store.atomic import named
from innerloop.harness.store.documents import plain

FILE = "journal.jsonl"
MOST_BYTES = 1 << 30


def append(folder: Path, *events: Event) -> None:
    """Adds a line each; they are on the disk when this returns. What a kill left of a line before them is ended first.

    Raises:
        OSError: it cannot be written.
    """
    line = b"".join(json.dumps(asdict(event), ensure_ascii=False, allow_nan=False).encode() + b"\n" for event in events)
    path = folder / FILE
    try:
        with open(path, "a+b") as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise named(error, path) from None


class Tail:
    """A journal that others write to, read on from where the last reading ended. `typed` checks one line's data."""

    def __init__(self, folder: Path, typed: Callable[[type[Event], Any], Event]) -> None:
        self._path, self._typed = folder / FILE, typed
        self._read = self._lines = 0  # bytes and lines of it

    def new(self, all_of_it: bool = False) -> list[Event]:
        """The events that were added. A line that is still being written waits for the next reading, unless
        `all_of_it`; one that a kill cut off says nothing: what it was about is run again.

        Raises:
            Refused: the journal cannot be read, or a whole line is no event.
        """
        try:
            if not os.path.lexists(self._path):
                return []
            with open_regular(self._path, str(self._path), MOST_BYTES) as file:
                file.seek(self._read)
                content = file.read(MOST_BYTES)
        except OSError as error:
            raise Refused(f"{self._path} cannot be read: {error.strerror}") from None
        whole = content if all_of_it else content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        out = []
        for line in whole.removesuffix(b"\n").split(b"\n"):
            self._lines += 1
            try:
                data = plain(json.loads(line, parse_int=whole_number))
            except (ValueError, RecursionError):
                continue  # empty, or cut off
            try:
                out.append(self._typed(Event, data))
            except ValueError as error:
                raise Refused(f"{self._path}, line {self._lines}, is not an event: {str(error)[:200]}") from None
        return out


def events(folder: Path, typed: Callable[[type[Event], Any], Event]) -> list[Event]:
    """Every event, in order. `typed` checks one line's data.

    Raises:
        Refused: as `Tail.new`.
    """
    return Tail(folder, typed).new(all_of_it=True)
