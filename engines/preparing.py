"""Becomes a preparation's command, in the engine's own interpreter: what the guard watches is the command itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from innerloop.engines.support.children import follow_parent
from innerloop.engines.worker.control import Control, opened


def main(job_path: str, channel: str) -> None:
    """Never returns. JOB holds {"command": the arguments behind the interpreter}; CHANNEL hears `started`."""
    follow_parent()  # also once it is another program
    command = json.loads(Path(job_path).read_text())["command"]
    Control(opened(channel)).send("started", pid=os.getpid())
    os.execv(sys.executable, [sys.executable, *command])
