"""Folders that are either whole or absent: written beside their place, moved there at the end, one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.signals import hold
from innerloop.harness.store.atomic import sync_folder

MAY_NOT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP)  # of a place, not of what is written

Say = Callable[[str], None]


class DiskFull(Refused):
    """There is no room for a folder; nothing of the run was started and nothing half-made is left."""


def partial(path: Path) -> Path:
    """The folder in which `path` is written until it is whole."""
    return path.with_name(f".{path.name}.partial")


def lock_file(path: Path) -> Path:
    """The lock of `path`. It stays when `path` goes: a lock that is unlinked could be held twice."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def locked(path: Path, say: Say) -> Iterator[None]:
    """Holds the lock of `path`, so that one process at a time makes or removes it; the system frees it at a kill."""
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process to write {path.name}")
        lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `path` at the end, or vanishes at an error; the lock of `path` is held.

    The files in it must be on the disk already (fsync). `path` itself must not exist.
    """
    half_made = partial(path)
    with hold() as held:
        half_made.mkdir()
        try:
            with held.released():
                yield half_made
            sync_folder(half_made)
            os.replace(half_made, path)
        except BaseException:
            shutil.rmtree(half_made, ignore_errors=True)
            raise
        sync_folder(path.parent)


def discard(path: Path) -> None:
    """Removes `path` and what is half-made of it; its lock is held. Killed midway, only a half-made folder is left."""
    half_made = partial(path)
    remove_tree(half_made, as_far_as_possible=True)
    if os.path.lexists(path):
        os.replace(path, half_made)
        remove_tree(half_made)


def remove_tree(path: Path, *, as_far_as_possible: bool = False) -> None:
    """Removes a folder; of one that a user keeps elsewhere and has linked here, the link.

    Raises:
        OSError: it cannot be removed, or is not there, and not only what is possible was asked for.
    """
    if path.is_symlink():
        with contextlib.suppress(OSError) if as_far_as_possible else contextlib.nullcontext():
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=as_far_as_possible)


def sweep(root: Path) -> None:
    """Removes what killed processes left half-made in `root`; what a living one is writing is locked, and stays."""
    from filelock import FileLock, Timeout

    for left in root.glob(".*.partial"):
        whole = left.with_name(left.name[1:].removesuffix(".partial"))
        with contextlib.suppress(Timeout), FileLock(lock_file(whole)).acquire(timeout=0):
            remove_tree(left, as_far_as_possible=True)


@contextlib.contextmanager
def disk_errors(path: Path, advice: str) -> Iterator[None]:
    """Turns what the disk says while `path`, in the cache, is written into errors; `advice`: where it is full.

    Raises:
        DiskFull: no space, or none left to this user.
        Refused: any other trouble with the disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"the disk filled up while writing {path.name} in {path.parent}", advice) from error
        details = []
        if error.errno in MAY_NOT:
            details = [f"set INNERLOOP_HOME to a folder that this user may write to; {path.parent} is none"]
        elif error.errno == errno.EFBIG:
            details = ["raise the limit of a file's size (ulimit -f), or set INNERLOOP_HOME to another file system"]
        raise Refused(f"{path} cannot be written: {error.strerror or error}", *details) from error
