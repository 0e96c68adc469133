"""Starting the guard (guard.py), and stopping it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")


def guard_command(control_fd: int, grace_s: float, command: Sequence[str]) -> list[str]:
    """What runs `command` behind the guard, which writes its last word to `control_fd`; `grace_s`: between SIGTERM and
    SIGKILL."""
    return [sys.executable, "-I", "-S", str(GUARD), str(control_fd), str(grace_s), "--", *command]


def stop_guard(guard: subprocess.Popen[bytes], cleanup_s: float) -> None:
    """Returns when nothing is left of what the guard started; after `cleanup_s` its own group is killed too."""
    if guard.stdin is not None:
        guard.stdin.close()  # the guard reads its end as the order to stop
        guard.stdin = None
    try:
        guard.wait(cleanup_s)
    except subprocess.TimeoutExpired:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
