"""Failures of innerloop's own: their causes, and those that come before anything was started."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from innerloop.harness.cli.errors import InnerloopError, Refused

FULL = (errno.ENOSPC, errno.EDQUOT)
ADVICE = "Check the path's permissions, the free space and the limits on files (ulimit -f, quotas)."


def cause_of(error: BaseException) -> str:
    """What the system says of a file or of memory has a cause of its own; the rest is innerloop's."""
    if isinstance(error, InnerloopError):
        return "harness"
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return "out_of_memory_host"
    if not isinstance(error, OSError):
        return "harness"
    if error.errno in FULL:
        return "disk_full"
    named = error.filename is not None or error.errno in (errno.EFBIG, errno.EIO, errno.EROFS)
    return "file_error" if named else "harness"


@contextmanager
def before_start() -> Iterator[None]:
    """Around all that comes before a worker is started: what the system refuses there, refuses the run.

    Raises:
        Refused: a file could not be read or written.
    """
    try:
        yield
    except OSError as error:
        raise Refused(f"nothing was started: {error}", ADVICE) from error
