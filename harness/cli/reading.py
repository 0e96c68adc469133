"""Files that somebody else wrote: regular ones only, up to a size, as text or JSON, or a refusal in one line."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from innerloop.harness.cli.errors import Refused

PROFILE_BYTES = 1_000_000
DOCUMENT_BYTES = 100_000_000
LARGEST = 2**64  # of a whole number
MOST_DIGITS = len(str(-LARGEST))


def is_there(path: Path) -> bool:
    """Whether anything lies at a path, were it a link that leads nowhere or to itself: whoever reads it then says so.

    Raises:
        OSError: that cannot be known, as in a folder of somebody else's.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return True


def open_regular(path: Path, source: str, most_bytes: int) -> BinaryIO:
    """Opens a regular file of at most `most_bytes` for reading; never waits, as a FIFO would.

    Raises:
        Refused: it cannot be read, is a device, a FIFO, a socket or a folder, or is larger. Named by `source`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise Refused(f"{source} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    about = os.fstat(descriptor)
    if stat.S_ISREG(about.st_mode) and about.st_size <= most_bytes:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(about.st_mode):
        raise Refused(f"{source} is not a regular file")
    raise Refused(f"{source} is too large: {about.st_size} bytes; the limit is {most_bytes}")


def read_bytes(path: Path, source: str, most_bytes: int = DOCUMENT_BYTES) -> bytes:
    """The whole of such a file.

    Raises:
        Refused: as `open_regular`.
    """
    with open_regular(path, source, most_bytes) as file:
        try:
            return file.read(most_bytes)
        except OSError as error:
            raise Refused(f"{source} cannot be read: {error.strerror}") from None


def read_text(path: Path, source: str, most_bytes: int = PROFILE_BYTES) -> str:
    """The same as UTF-8 text; a byte order mark is left out.

    Raises:
        Refused: as `open_regular`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, source, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(f"{source} is not UTF-8 text") from None


def whole_number(text: str) -> int:
    """JSON's, of as many digits as `LARGEST` has; no figure has more, and float takes 308 at most.

    Raises:
        ValueError: it has more.
    """
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def read_json(path: Path, source: str, most_bytes: int = DOCUMENT_BYTES) -> Any:
    """The same as JSON.

    Raises:
        Refused: as `read_text`, or it is not JSON, or nested too deeply.
    """
    text = read_text(path, source, most_bytes)
    try:
        return json.loads(text, parse_int=whole_number)
    except RecursionError:
        raise Refused(f"{source} is nested too deeply") from None
    except ValueError as error:
        raise Refused(f"{source} is not JSON: {error}") from None


def read_kept(path: Path) -> Any:
    """A JSON file that innerloop keeps for itself, which may have been damaged since.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it cannot be read.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        return read_json(path, "it")
    except Refused as refusal:
        raise ValueError(str(refusal)) from None
