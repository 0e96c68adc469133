"""The folder for a worker's temporary files: its own, and short enough for the sockets that engines put there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

SOCKET_BYTES = 107  # of a Unix socket's path: sun_path in linux/un.h, less the closing NUL
NAMES_BYTES = 45  # that engines put behind the folder: vLLM a UUID, multiprocessing and torch two names
OWN = "innerloop-"  # what the names of workers' own folders begin with
OWN_BYTES = len(OWN) + 9  # of such a name and the slash before it
USUAL = ("/tmp", "/var/tmp", "/dev/shm")


def temp_variables() -> dict[str, str]:
    """TMPDIR of a worker where the user's own is too long for a socket's path, as batch systems have it; else empty."""
    try:
        own = tempfile.gettempdir()
    except FileNotFoundError:  # none can be written to, as in a container that is read-only
        return {}
    if len(os.fsencode(own)) + OWN_BYTES + NAMES_BYTES <= SOCKET_BYTES:
        return {}
    short = next((folder for folder in USUAL if _writable(folder)), None)
    return {"TMPDIR": short} if short else {}


def own_folder(variables: Mapping[str, str], mark: str) -> Path | None:
    """Where a worker with such variables has its temporary files, so that whatever ends it, none is left: made and
    removed by its guard. None: there is no folder that can be written to."""
    asked = variables.get("TMPDIR")
    try:
        parent = asked if asked and _writable(asked) else tempfile.gettempdir()
    except FileNotFoundError:
        return None
    return Path(os.path.abspath(parent), OWN + mark[:8])


def _writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
