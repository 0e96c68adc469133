"""Which processes an engine has started: those that carry a mark in their environment."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

MARK = "INNERLOOP_CHECK"
SETTLE_S = 2.0  # what has been told to end may take a moment


def marked_processes(mark: str, settle_s: float = SETTLE_S) -> list[str]:
    """The command lines of other processes that were started with MARK=mark, once those that are ending have ended."""
    deadline = time.monotonic() + settle_s
    while (found := _marked(f"{MARK}={mark}".encode())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _marked(entry: bytes) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):  # it has ended, or is another user's
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found.append(b" ".join(words).decode(errors="replace").strip() or folder.name)
    return found
