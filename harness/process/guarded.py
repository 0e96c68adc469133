"""A command of the user's, run behind the guard: whatever ends the harness, nothing that it has started goes on."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.signals import hold
from innerloop.harness.process.bound import MARK, end_marked
from innerloop.harness.process.engine_log import blank_secrets
from innerloop.harness.process.guarding import guard_command, stop_guard

GRACE_S, CLEANUP_S = 5.0, 30.0  # between SIGTERM and SIGKILL; until the guard itself is killed
MOST_BYTES = 1 << 16  # of the guard's last word


def run_guarded(command: Sequence[str], folder: Path, log: Path) -> int | None:
    """Runs a command in `folder`, its output in `log`, which is written anew; its exit code, negative: the signal.
    None: it could not be started, or its guard was killed.

    Raises:
        OSError: the log cannot be written.
    """
    read_fd, write_fd = os.pipe()
    mark, begun_s = uuid.uuid4().hex, time.time()
    with hold() as held:
        try:
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    guard_command(write_fd, GRACE_S, command),
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
                stop_guard(process, CLEANUP_S)
                if process.returncode != 0:
                    end_marked(mark, log, begun_s)
                blank_secrets(log)
            os.set_blocking(read_fd, False)
            return _code(read_fd)
        finally:
            os.close(write_fd)
            os.close(read_fd)


def _code(read_fd: int) -> int | None:
    try:
        said = os.read(read_fd, MOST_BYTES).splitlines()
        return int(json.loads(said[-1])["code"])
    except (BlockingIOError, LookupError, ValueError, TypeError):
        return None
