"""The worker's side of the control channel."""

from __future__ import annotations

import json
import os
import time
from typing import Any


class Control:
    """The worker's side of the control channel: newline-separated JSON, each with the monotonic time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, "time_ns": time.monotonic_ns(), **fields}, default=str) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(self._fd, data) :]


def opened(channel: str) -> int:
    """The control channel as a file of this process alone: the engine's own children have no business there."""
    if not channel.isdigit():
        return os.open(channel, os.O_WRONLY)  # not inheritable
    if int(channel) <= 2:
        return os.dup(int(channel))
    os.set_inheritable(int(channel), False)
    return int(channel)
