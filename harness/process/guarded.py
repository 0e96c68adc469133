"""A command of the user's, run behind the guard: whatever ends the harness, nothing that it has started goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.signals import hold
from innerloop.harness.process.bound import MARK, end_marked
from innerloop.harness.process.engine_log import blank_credentials

GUARD = Path(__file__).with_name("guard.py")
GRACE_S, CLEANUP_S = 5.0, 30.0  # between SIGTERM and SIGKILL; until the guard itself is killed
MOST_BYTES = 1 << 16  # of the guard's last word


def run_guarded(command: Sequence[str], folder: Path, log: Path) -> int | None:
    """Runs a command in `folder`, its output in `log`, which is written anew; its exit code, negative: the signal.
    None: it could not be started, or its guard was killed.

    Raises:
        OSError: the log cannot be written.
    """
    read_fd, write_fd = os.pipe()
    mark = uuid.uuid4().hex
    guard = [sys.executable, "-I", "-S", str(GUARD), str(write_fd), str(GRACE_S), "--", *command]
    with hold() as held:
        try:
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    guard,
                    cwd=folder,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, MARK: mark},
                    pass_fds=[write_fd],
                    start_new_session=True,
                )
            try:
                with held.released():
                    process.wait()
            finally:
                _end(process)
                if process.returncode != 0:
                    end_marked(mark)
                blank_credentials(log)
            os.set_blocking(read_fd, False)
            return _code(read_fd)
        finally:
            os.close(write_fd)
            os.close(read_fd)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Returns when nothing is left of it: the guard reads the end of its input as the order to stop."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(CLEANUP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _code(read_fd: int) -> int | None:
    try:
        said = os.read(read_fd, MOST_BYTES).splitlines()
        return int(json.loads(said[-1])["code"])
    except (BlockingIOError, LookupError, ValueError, TypeError):
        return None
