"""Failures of innerloop's own: their causes, and those that come before anything was started."""

from __future__ import annotations

import errno
from pathlib import Path

from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.result.codes import FAILURES

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = ("disk_full", "file_error", "system_limit")
LIMITS = (errno.EAGAIN, errno.EMFILE, errno.ENFILE)  # of processes and of open files
NO_THREAD = "can't start new thread"  # Python's
ADVICE = "Check the path's permissions, the free space, file-size limits (ulimit -f) and quotas."


def cause_of(error: BaseException) -> str:
    """What the system says of a file or of memory has a cause of its own; the rest is innerloop's."""
    if isinstance(error, InnerloopError):
        return "harness"
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return "out_of_memory_host"
    if getattr(error, "errno", None) in LIMITS or NO_THREAD in str(error):
        return "system_limit"
    if not isinstance(error, OSError):
        return "harness"
    if error.errno in FULL:
        return "disk_full"
    named = error.filename is not None or error.errno in (errno.EFBIG, errno.EIO, errno.EROFS)
    return "file_error" if named else "harness"


def advice_of(error: BaseException) -> str:
    """What to do where the system refused something before a worker was started."""
    own = FAILURES["system_limit"].advice if cause_of(error) == "system_limit" else None
    return own or ADVICE


def refuses(error: BaseException, log: Path) -> bool:
    """Whether the system refused a file before a worker was started, whose log is made first: then nothing was."""
    return isinstance(error, OSError) and cause_of(error) in REFUSED and not log.exists()
