"""What is left of a process: whatever carries its mark in its environment."""

from __future__ import annotations

import os
import signal
import time
import uuid
from contextlib import suppress

GONE_S = 15.0  # for what a process started to end, once it has itself
POLL_S = 0.05
MARK = "INNERLOOP_SOAK"
SHARED_MEMORY = "/dev/shm"


def new_mark() -> str:
    return uuid.uuid4().hex


def marked(mark: str) -> list[int]:
    """The living processes with that mark."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(name))
    return found


def left_of(mark: str) -> list[str]:
    """The command lines of what is still there when time is up; it is killed then."""
    deadline = time.monotonic() + GONE_S
    while (pids := marked(mark)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    lines = []
    for pid in pids:
        with suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                lines.append(file.read().replace(b"\0", b" ").decode(errors="replace")[:120])
            os.kill(pid, signal.SIGKILL)
    return lines


def shared_memory_of(pids: set[int], since_s: float) -> list[str]:
    """The files in shared memory that are called by one of these processes and are younger than `since_s` (Unix time):
    an older one is of another process, which had that number before."""
    found = []
    for name in os.listdir(SHARED_MEMORY) if os.path.isdir(SHARED_MEMORY) else []:
        with suppress(OSError):  # it is gone
            young = os.stat(os.path.join(SHARED_MEMORY, name)).st_mtime >= since_s
            if young and any(part.isdigit() and int(part) in pids for part in name.split("_")):
                found.append(name)
    return found
