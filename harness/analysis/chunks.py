"""Long columns by parts: what grows with a run's tokens is never in memory as a whole.

The arrays are mapped from files. Behind each part its pages are given back, so that they stay in the page cache, which
the kernel takes from when others need memory, and no longer count as this process's own.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from innerloop.harness.cli.slowly import Slowly

CHUNK = 1 << 21  # rows looked at at once; what is shorter is looked at as a whole
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)  # another user's folder, or a disk that is only read
_heard: list[Callable[[], None]] = []


def chunks(table: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of a table or a column, in order, at most CHUNK at once; not one part of an empty one."""
    for begin in range(0, len(table), CHUNK):
        yield np.asarray(table[begin : begin + CHUNK])
        if len(table) > CHUNK:
            give_back(table)
            tick()


def tick() -> None:
    """A part of what is long is done."""
    for one in _heard:
        one()


@contextmanager
def heard(tick: Callable[[], None]) -> Iterator[None]:
    """Meanwhile `tick` is called behind every part of what is long, so that somebody can say that it goes on."""
    _heard.append(tick)
    try:
        yield
    finally:
        _heard.remove(tick)


@contextmanager
def said(doing: str, say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile `say` hears what goes on and for how long, every few seconds, where it takes more than two."""
    slowly = Slowly(say)
    with heard(lambda: slowly.tick(doing)):
        yield


def give_back(table: np.ndarray) -> None:
    """Lets go of the pages of a mapped file; they are read again when they are needed."""
    mapped = next((one for one in _bases(table) if isinstance(one, mmap.mmap)), None)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def scratch(near: np.ndarray, rows: int, dtype: npt.DTypeLike) -> np.ndarray:
    """An array [rows] to be filled: of a file without a name beside the one that `near` is mapped from, where it is
    long, there is such a file, and one may be written there; else in memory.

    Raises:
        OSError: the disk is full.
    """
    source = next((one.filename for one in _bases(near) if getattr(one, "filename", None)), None)
    if rows <= CHUNK or source is None:
        return np.empty(rows, dtype=dtype)
    folder = next(one for one in Path(source).absolute().parents if one.is_dir())
    try:
        return scratch_in(folder, rows, dtype)
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
        return np.empty(rows, dtype=dtype)


def scratch_in(folder: Path, rows: int, dtype: npt.DTypeLike) -> np.ndarray:
    """The same in a folder, whatever its length.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, rows * np.dtype(dtype).itemsize)
        made: Any = np.memmap(file, dtype=dtype, mode="r+", shape=(rows,))
        made.filename = str(folder / "scratch")  # no such file: it says where others are to lie
        return cast(np.ndarray, made)


def added(column: np.ndarray) -> int:
    """The sum of a column of whole numbers."""
    return sum(int(part.sum(dtype=np.int64)) for part in chunks(column))


def least_and_most(column: np.ndarray) -> tuple[int, int] | None:
    """The bounds of a column of whole numbers; None of an empty one."""
    bounds = [(int(part.min()), int(part.max())) for part in chunks(column)]
    return (min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None


def at_most(column: np.ndarray, limit: float) -> int:
    """How many values are `limit` at most."""
    return sum(int(np.count_nonzero(part <= limit)) for part in chunks(column))


def _bases(table: Any) -> Iterator[Any]:
    while table is not None:
        yield table
        table = getattr(table, "base", None)
