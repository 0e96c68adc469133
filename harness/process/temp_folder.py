"""The folder for a worker's temporary files: short enough for the sockets that engines put there."""

from __future__ import annotations

import os
import tempfile

SOCKET_BYTES = 107  # of a Unix socket's path: sun_path in linux/un.h, less the closing NUL
NAMES_BYTES = 60  # that engines put behind the folder: vLLM a UUID, multiprocessing two names
USUAL = ("/tmp", "/var/tmp", "/dev/shm")


def temp_variables() -> dict[str, str]:
    """TMPDIR of a worker where the user's own is too long for a socket's path, as batch systems have it; else empty."""
    try:
        own = tempfile.gettempdir()
    except FileNotFoundError:  # none can be written to, as in a container that is read-only
        return {}
    if len(os.fsencode(own)) + NAMES_BYTES <= SOCKET_BYTES:
        return {}
    short = next((folder for folder in USUAL if os.access(folder, os.W_OK | os.X_OK)), None)
    return {"TMPDIR": short} if short else {}
