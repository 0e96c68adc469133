"""Starting the guard (guard.py), and stopping it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from innerloop.harness.process.guard import POLL_S, lives

GUARD = Path(__file__).with_name("guard.py")


def guard_command(control_fd: int, grace_s: float, command: Sequence[str]) -> list[str]:
    """What runs `command` behind the guard, which writes its last word to `control_fd`; `grace_s`: between SIGTERM and
    SIGKILL."""
    return [sys.executable, "-I", "-S", str(GUARD), str(control_fd), str(grace_s), "--", *command]


def stop_guard(guard: subprocess.Popen[bytes], cleanup_s: float) -> None:
    """Returns when nothing is left of what the guard started; after `cleanup_s` its own group is killed too.

    Where the first of the guard's two processes was killed, the second has as long."""
    if guard.stdin is not None:
        guard.stdin.close()  # the guard reads its end as the order to stop
        guard.stdin = None
    try:
        guard.wait(cleanup_s)
    except subprocess.TimeoutExpired:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
    if guard.returncode != 0:
        deadline = time.monotonic() + cleanup_s
        while (left := _group(guard.pid)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _group(leader: int) -> list[int]:
    """The living processes of the group that `leader` led."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.getpgid(int(name)) == leader and lives(name):
                found.append(int(name))
    return found
