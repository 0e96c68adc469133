"""Every environment that is there: innerloop's own, whole or not, and the registered ones."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments import registered
from innerloop.harness.environments.folders import (
    MARKER,
    VERSION_LOCK,
    environments_folder,
    kept_aside,
    lock_path,
    read_marker,
    remove_trials,
    settle_left,
)


@dataclass(frozen=True, slots=True)
class Listed:
    """An environment's folder as `list` shows it. Times are UTC, ISO 8601; None: unknown.

    state: "ready"; "outdated": made from another lock than this version's; "broken": its Python, or a folder that was
    registered, is gone; "unfinished": half-made, to be made again at the next use; "registered": not made by innerloop.
    bytes: on disk, hard links counted once (uv may share files with its cache); None where it was registered.
    """

    name: str
    engine: str
    device: str
    state: str
    version: str | None
    python: str | None
    bytes: int | None
    created: str | None
    last_used: str | None
    folder: str


def listed(sizes: bool = True) -> list[Listed]:
    """Every environment that innerloop has made or that is registered, by name; those that it made first."""
    return [*made(sizes), *map(of_registered, registered.everything())]


def of_registered(one: registered.Registered) -> Listed:
    return Listed(
        name=one.name,
        engine=one.engine,
        device=one.device,
        state="broken" if registered.missing(one) else "registered",
        version=one.version,
        python=one.python_version,
        bytes=None,
        created=one.created,
        last_used=None,
        folder=str(one.python),
    )


def made(sizes: bool = True) -> list[Listed]:
    """Every environment in the cache folder, whole or not, by name."""
    root = environments_folder()
    remove_trials(root)
    for kept in root.glob(kept_aside(Path("*")).name):
        settle_left(kept.with_name(kept.name.removeprefix(".").removesuffix(kept.suffix)))
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [of_folder(folder, sizes) for folder in folders if folder.name.count("-") >= 2 and folder.name[0] != "."]


def of_folder(folder: Path, sizes: bool) -> Listed:
    engine, device, _ = folder.name.rsplit("-", 2)
    record = read_marker(folder)
    state = "ready"
    if record is None:
        state = "unfinished"
    elif not (folder / "bin" / "python").exists():
        state = "broken"
    elif not (folder / VERSION_LOCK).exists() and record["lock_hash"] != current_lock_hash(engine, device):
        state = "outdated"
    used = None
    if record is not None:
        seconds = (folder / MARKER).stat().st_mtime
        used = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
    return Listed(
        name=folder.name,
        engine=engine,
        device=device,
        state=state,
        version=record["version"] if record else None,
        python=record["python_version"] if record else None,
        bytes=disk_bytes(folder) if sizes else 0,
        created=record["created"] if record else None,
        last_used=used,
        folder=str(folder),
    )


def current_lock_hash(engine: str, device: str) -> str | None:
    """The hash of the lock that this version of innerloop would use; None if it has none."""
    from innerloop.harness.profiles.engines import load_engine

    try:
        recipe = load_engine(engine).environments.get(device)
    except Refused:
        return None
    if recipe is None or recipe.lock is None:
        return None
    return hashlib.sha256(lock_path(recipe.lock).read_bytes()).hexdigest()


def disk_bytes(folder: Path) -> int:
    """What a folder takes on the disk, each file once."""
    seen: dict[tuple[int, int], int] = {}
    for top, _, files in os.walk(folder):
        for name in files:
            try:
                status = os.lstat(os.path.join(top, name))
            except OSError:
                continue  # removed while we look
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())
