"""Programs that end with the harness, however that goes, and what is left of a worker whose guard was killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from innerloop.harness.process.guard import Left, tracks

MARK = "INNERLOOP_WORKER"  # in the environment of a worker and of all that it starts
POLL_S = 0.02
PATIENCE_S = 5.0
CLOCK_S = 1.0  # to which a process's beginning is known in Unix time

# Lets the kernel end a program with the harness, and only then becomes it.
WITH_PARENT = (
    "import ctypes, os, sys; parent = int(sys.argv[1]); ctypes.CDLL(None).prctl(1, 9);"  # PR_SET_PDEATHSIG, SIGKILL
    " os.getppid() == parent or os._exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
)


def with_parent(command: Sequence[str]) -> list[str]:
    """The command as one that ends with this process."""
    return [sys.executable, "-I", "-S", "-c", WITH_PARENT, str(os.getpid()), *command]


def end_group(leader: int) -> None:
    """Kills a process and those of the group that it leads, but resource trackers, which then end by themselves."""
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(ProcessLookupError, PermissionError):
            if pid == leader or (os.getpgid(pid) == leader and not tracks(pid)):
                os.kill(pid, signal.SIGKILL)


def end_marked(mark: str, log: Path | None = None, since_s: float = 0) -> int:
    """Kills every process whose environment holds the mark, in whatever session, and those that print into `log` and
    began after `since_s` (Unix time), such as one that was started without the environment; says how many there were.

    Goes on until twice none is found, since a process may have been forking, or have no environment in the midst of its
    exec, for at most `PATIENCE_S`. Resource trackers come last (see `guard.Left`); then they are killed too.
    """
    seen: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    left, none = Left(), 0
    over = False
    while none < 2 and not over:
        over = time.monotonic() > deadline
        found = marked(mark) | (writers(log, since_s) if log is not None else set())
        none = 0 if found else none + 1
        seen |= found
        for pid in found if over else left.due(found):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
    return len(seen)


def marked(mark: str) -> set[int]:
    """The living processes whose environment, as it was when they were started, holds the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.add(int(name))
    return found


def writers(log: Path, since_s: float) -> set[int]:
    """The living processes whose stdout or stderr is this log, and that began after `since_s` (Unix time). Not those of
    a session whose leader lives and prints elsewhere, such as a user's shell that redirected something into the log."""
    import psutil

    found: set[int] = set()
    with suppress(OSError):
        wanted = os.lstat(log)  # were it a link by now, whatever prints into /dev/null might be found
        for pid in set(psutil.pids()) - {os.getpid()}:
            with suppress(OSError, psutil.Error):
                if _prints_into(pid, wanted) and psutil.Process(pid).create_time() >= since_s - CLOCK_S:
                    leader = os.getsid(pid)
                    if leader == pid or (leader and _prints_into(leader, wanted, gone=True)):
                        found.add(pid)
    return found


def _prints_into(pid: int, wanted: os.stat_result, gone: bool = False) -> bool:
    """Whether stdout or stderr of a process is that file; `gone`: of one that has ended, or has neither."""
    open_files = []
    for number in (1, 2):
        with suppress(FileNotFoundError, ProcessLookupError):
            open_files.append(os.stat(f"/proc/{pid}/fd/{number}"))
    return any(os.path.samestat(one, wanted) for one in open_files) if open_files else gone
