"""What a worker's processes print: its last lines, without credentials."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import open_regular
from innerloop.harness.cli.secrets import KEY_ENDS, KEY_LENGTH, hidden, own_secrets, places

TAIL_LINES, TAIL_BYTES = 20, 64 << 10
PART_BYTES = 1 << 20
BLOCK_BEGINS = b"-----BEGIN "


def log_tail(path: Path, lines: int = TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a log, without control characters and credentials (as `blank_secrets` finds them)."""
    values = _values()
    before = max(map(len, values), default=0)  # what is read may begin within a value, which is then cut off
    try:
        with open_regular(path, path.name, sys.maxsize) as f:
            f.seek(max(os.fstat(f.fileno()).st_size - TAIL_BYTES - before, 0))
            read = f.read(TAIL_BYTES + before)
    except (OSError, Refused):
        return ()
    for value in values:
        read = read.replace(value, b"*" * len(value))
    text = hidden(read[-TAIL_BYTES:].decode(errors="replace"))
    text = "".join(c if c.isprintable() or c in "\n\t" else "\n" for c in text)
    return tuple(line for line in text.splitlines() if line.strip())[-lines:]


def blank_secrets(path: Path) -> None:
    """Writes asterisks over the values of this process's credentials, and over others that are known by their form or
    their name; a log that cannot be read or written stays, and so does what a link in its place leads to."""
    values = _values()
    try:
        with open_regular(path, path.name, sys.maxsize) as read:
            found = list(_places(read, values)) if values else []
            read.seek(0)
            found += _formed(read)
        if found:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
                for place, length in found:
                    file.seek(place)
                    file.write(b"*" * length)
    except (OSError, Refused):
        pass


def _values() -> list[bytes]:
    return [value.encode(errors="surrogateescape") for value in own_secrets()]


def _formed(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Where each credential in a line is that is known without its value, and its length; a private key has several."""
    begin = 0
    while line := file.readline(PART_BYTES):
        if BLOCK_BEGINS in line:
            length = len(line) + KEY_LENGTH
            while KEY_ENDS.encode() not in line and len(line) < length and (more := file.readline(PART_BYTES)):
                line += more
        text = line.decode(errors="surrogateescape")
        for at, end in places(text):
            yield begin + _length(text[:at]), _length(text[at:end])
        begin += len(line)


def _length(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))


def _places(file: BinaryIO, values: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where each value begins, and its length. Parts overlap by the longest value, less a byte."""
    begin, kept = 0, b""
    while part := file.read(PART_BYTES):
        held = kept + part
        for value in values:
            at = held.find(value)
            while at >= 0:
                yield begin + at, len(value)
                at = held.find(value, at + 1)
        kept = held[len(held) - min(len(held), max(map(len, values)) - 1) :]
        begin += len(held) - len(kept)
