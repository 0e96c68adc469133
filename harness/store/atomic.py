"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.signals import hold

OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what a write may meet in a file that is open
STREAMS = (("dev",), ("dev", "fd"), ("proc", "self", "fd"))  # folders of links to what this process has open


@contextlib.contextmanager
def whole(path: Path, *, contended: bool = False) -> Iterator[Path]:
    """Yields the partial file to write; it replaces `path` at the end, or is removed at an error.

    `contended`: several processes may write `path` at the same time, so each has a partial file of its own.

    A link is replaced and not followed: where it leads is not ours to write to.

    Raises:
        Refused: a device or a FIFO is there, which would be replaced by a file.
        OSError: it cannot be written; names `path` and not the partial file.
    """
    if (path.exists() and not path.is_file() and not path.is_dir()) or path.absolute().parts[1:-1] in STREAMS:
        raise Refused(f"{path} is not a regular file; name one, which is written whole or not at all")
    own = f".{os.getpid()}" if contended else ""
    partial = path.with_name(f".{path.name}{own}.partial")
    with hold() as held:
        partial.unlink(missing_ok=True)  # a link that somebody else put there would be followed
        try:
            with held.released():
                yield partial
            replace_file(partial, path)
        except OSError as error:
            raise named(error, path, partial) from None
        finally:
            partial.unlink(missing_ok=True)


def named(error: OSError, path: Path, partial: Path | None = None) -> OSError:
    """The error with the file that it is about: the system names none where a write fails, and else the partial one."""
    unnamed = error.filename is None and error.errno in OF_A_DISK
    if unnamed or (partial is not None and error.filename in (partial, str(partial))):
        return OSError(error.errno, error.strerror, str(path))  # in place, a second name would be told as None
    return error


def write_text(path: Path, text: str, *, contended: bool = False) -> None:
    """Writes `text` as UTF-8.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    with whole(path, contended=contended) as partial:
        partial.write_text(text, encoding="utf-8")


def replace_file(partial: Path, path: Path) -> None:
    """Puts a finished file in its place so that a reader, also after a power cut, sees the old one or the new one."""
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
