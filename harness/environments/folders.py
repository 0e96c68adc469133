"""Innerloop's own environments on disk: one virtual environment an engine and kind of device, outside the checkout.

An environment is whole when its `.complete` marker is there: it is written last, in one rename. A folder without one is
half-made, whatever left it so, and is made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.cli.reading import read_kept
from innerloop.harness.environments.environment import OWN_PACKAGES, Environment, worker_variables
from innerloop.harness.environments.installer import Say
from innerloop.harness.environments.interpreters import choose_python
from innerloop.harness.machine import cache_folder
from innerloop.harness.store.folders import lock_file, remove_tree

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import EngineProfile, Recipe

MARKER = ".complete"
VERSION_LOCK = "lock.txt"  # in an environment of a version that was named


@dataclass(frozen=True, slots=True)
class Plan:
    """What an environment will be, before it is."""

    engine: EngineProfile
    device: str
    lock: Path
    lock_hash: str
    python: str  # a path, or a version that uv is to get
    python_version: str
    folder: Path

    @property
    def recipe(self) -> Recipe:
        return self.engine.environments[self.device]


def environments_folder() -> Path:
    """Where environments are kept: a folder of the cache."""
    return cache_folder() / "environments"


def plan(engine: EngineProfile, device: str) -> Plan:
    """What `create` would make, and where.

    The folder's name says what is in it: engine, device, and 12 hex digits of the SHA-256 of the lock and Python's
    minor version, so that another lock is another environment.

    Raises:
        Refused: innerloop has no lock for it, or there is no Python for it, or it cannot make that version.
        InstallFailed: the version that is asked for cannot be resolved.
    """
    recipe = engine.environments.get(device)
    if recipe is None or recipe.lock is None:
        why = "has no adapter for it" if not engine.adapter else f"has no lock for it on {device}"
        raise Refused(f"innerloop cannot create an environment for {engine.name}: this version {why}")
    if engine.pinned is None:
        lock = lock_path(recipe.lock)
    else:
        from innerloop.harness.environments.versions import lock_of_version

        lock = lock_of_version(engine, device)
    content = lock.read_bytes()
    python, version = choose_python(recipe.python or ">=3.10")
    minor = ".".join(version.split(".")[:2])
    digest = hashlib.sha256(content + minor.encode()).hexdigest()
    folder = environments_folder() / f"{engine.name}-{device}-{digest[:12]}"
    return Plan(engine, device, lock, hashlib.sha256(content).hexdigest(), python, version, folder)


def lock_path(name: str) -> Path:
    """The lock file of a recipe."""
    from innerloop.harness.profiles.engines import LOCKS

    return LOCKS / name


def existing(planned: Plan) -> Environment | None:
    """The environment that `planned` describes, if it is there and whole, or was before a process was killed that made
    it anew."""
    record = read_marker(planned.folder)
    if record is None:
        settle_left(planned.folder)
        record = read_marker(planned.folder)
    python = planned.folder / "bin" / "python"
    if record is None or not python.exists():  # its base interpreter may have gone
        return None
    return Environment(
        engine=planned.engine.name,
        device=planned.device,
        python=python,
        folder=planned.folder,
        lock_hash=planned.lock_hash,
        created=record["created"],
        variables=worker_variables(planned.recipe, planned.folder) | OWN_PACKAGES,
        version=record["version"],
        python_version=record["python_version"],
    )


class Marker(TypedDict):
    """What is read of the file that says that an environment is whole."""

    created: str
    version: str | None
    python_version: str
    lock_hash: str


def read_marker(folder: Path) -> Marker | None:
    """What was written when an environment was finished; None if it is half-made."""
    try:
        record = read_kept(folder / MARKER)
    except (OSError, ValueError):
        return None
    texts = isinstance(record, dict) and [record.get(name) for name in ("created", "python_version", "lock_hash")]
    whole = texts and all(isinstance(text, str) for text in texts) and "version" in record
    return record if whole and isinstance(record["version"], (str, type(None))) else None


def kept_aside(folder: Path) -> Path:
    """Where an environment is kept while it is made anew."""
    return folder.with_name(f".{folder.name}.before")


def settle(folder: Path) -> None:
    """Removes an environment that has been made anew; puts it back where the new one, as of a killed process, is not
    whole. Its lock is held."""
    before = kept_aside(folder)
    if os.path.lexists(before):
        if read_marker(folder) is not None:
            discard(before)
        else:
            discard(folder)
            os.rename(before, folder)


def settle_left(folder: Path) -> None:
    """Settles what a killed process left that made an environment anew; what a living one makes stays as it is."""
    if os.path.lexists(kept_aside(folder)):
        with suppress(OSError, InnerloopError), locked(folder, None):
            settle(folder)


def trial_of(folder: Path) -> Path:
    """Where this process tries out how an environment is made, without making it."""
    return folder.with_name(f".{folder.name}.trial-{os.getpid()}")


def end_trial(trial: Path) -> None:
    """Removes a trial and its lock, which is held."""
    discard(trial)
    lock_file(trial).unlink(missing_ok=True)


def remove_trials(root: Path) -> None:
    """Removes what killed processes left of their trials; a living one has its locked."""
    for left in root.glob("..*.trial-*.lock"):
        trial = left.with_name(left.name[1:].removesuffix(left.suffix))
        with suppress(OSError, InnerloopError), locked(trial, None):
            end_trial(trial)


def discard(folder: Path) -> None:
    """Removes an environment; the marker goes first, so that what an interruption leaves is not taken as whole."""
    if not folder.is_symlink():
        (folder / MARKER).unlink(missing_ok=True)
    remove_tree(folder, as_far_as_possible=True)
    if os.path.lexists(folder):
        raise InnerloopError(f"{folder} cannot be removed; remove it by hand")


@contextmanager
def locked(folder: Path, say: Say | None) -> Iterator[int]:
    """Holds the lock of an environment and yields its file descriptor, which children may inherit to hold it too.

    `say` None: don't wait.

    Raises:
        Refused: another process holds it, and `say` is None.
    """
    import fcntl

    fd = os.open(lock_file(folder), os.O_RDWR | os.O_CREAT, 0o666)  # less the umask: a group may share a cache
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if say is None:
                raise Refused(f"another process is creating {folder.name}") from None
            say(f"waiting for another process to create {folder.name}")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)
