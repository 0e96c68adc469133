"""The folder for a worker's temporary files: its own, and short enough for the sockets that engines put there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SOCKET_BYTES = 107  # of a Unix socket's path: sun_path in linux/un.h, less the closing NUL
NAMES_BYTES = 45  # that engines put behind the folder: vLLM a UUID, multiprocessing and torch two names
OWN = "innerloop."  # what the names of workers' own folders begin with
OWN_BYTES = len(OWN) + 9  # of such a name and the slash before it
YOUNG_S = 60.0  # within which a guard certainly locks the folder that it has made
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
    return Path(os.path.abspath(parent), OWN + _system() + mark[:5])


def remove_left(parent: Path) -> None:
    """Removes this user's folders of workers whose guard was killed together with the harness: a guard that lives has
    its folder locked. Where nothing can be locked, as on some network file systems, none is removed; nor any of another
    machine, whose locks may not be seen here."""
    for folder in parent.glob(OWN + _system() + "[0-9a-f]" * 5):
        with suppress(OSError):
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or time.time() - about.st_mtime < YOUNG_S:
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _system() -> str:
    """Three letters that tell this start of this machine from most others."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        boot_id = b""
    return hashlib.sha256(boot_id).hexdigest()[:3]


def _writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
