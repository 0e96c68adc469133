"""One virtual environment an engine and kind of device: made once from a lock by uv, kept outside the checkout.

An environment is whole when its `.complete` marker is there: it is written last, in one rename. A folder without one is
half-made, whatever left it so, and is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.errors import InnerloopError, InstallFailed, Refused
from innerloop.harness.environments import installer, registered
from innerloop.harness.environments.environment import OWN_PACKAGES, Environment, worker_variables
from innerloop.harness.environments.installer import Say
from innerloop.harness.environments.interpreters import choose_python, packages, probe
from innerloop.harness.environments.own import adopt
from innerloop.harness.machine import cache_folder
from innerloop.harness.store.folders import lock_file

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import EngineProfile, Recipe

__all__ = ["Environment", "adopt", "check", "create", "main", "obtain", "packages", "plan", "worker_variables"]

MARKER = ".complete"


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
        Refused: innerloop has no lock for it, or there is no Python for it.
    """
    recipe = engine.environments.get(device)
    if recipe is None or recipe.lock is None:
        why = "has no adapter for it yet" if not engine.adapter else f"has no lock for it on {device}"
        raise Refused(f"innerloop cannot make an environment for {engine.name}: this version {why}")
    lock = lock_path(recipe.lock)
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


def obtain(
    engine: EngineProfile, device: str, engine_python: Path | None, name: str | None, *, say: Say | None = None
) -> Environment:
    """The user's interpreter, or what is registered by that name, or innerloop's own, made now unless it is there.

    Raises:
        Refused, InstallFailed: as `adopt`, `registered.environment` and `create`.
    """
    own = yours(engine, device, engine_python, name)
    return create(engine, device, say=say) if own is None else own


def yours(engine: EngineProfile, device: str, engine_python: Path | None, name: str | None) -> Environment | None:
    """The environment that the user brings, as it is now; None where innerloop is to make one."""
    if engine_python is not None:
        return adopt(engine_python, engine, device)
    return None if name is None else registered.environment(registered.load(name), engine, device)


def check(engine: EngineProfile, device: str, engine_python: Path | None = None, name: str | None = None) -> None:
    """Whether `obtain` could begin; makes nothing.

    Raises:
        Refused: it could not.
    """
    if yours(engine, device, engine_python, name) is not None:
        return
    if existing(planned := plan(engine, device)) is None:
        installer.require_uv()
        _make_root(planned.folder.parent)


def create(engine: EngineProfile, device: str, *, say: Say | None = None, recreate: bool = False) -> Environment:
    """The engine's environment, made now unless it is there already. `say` hears what is going on, a line at a time.

    Of two processes that ask at once, one makes it and the other waits.

    Raises:
        Refused: it cannot be made on this machine.
        InstallFailed: the installer failed; its words are in `details`, and nothing is left behind.
    """
    say = say or (lambda text: None)
    planned = plan(engine, device)
    found = None if recreate else existing(planned)
    if found is None:
        _make_root(planned.folder.parent)
        with _locked(planned.folder, say) as lock_fd:
            found = None if recreate else existing(planned)
            if found is None:
                if recreate:
                    _refuse_in_use(planned.folder)
                _build(planned, lock_fd, say)
                found = existing(planned)
    if found is None:
        raise InstallFailed(f"the environment in {planned.folder} was made but does not work")
    os.utime(planned.folder / MARKER)  # the last use, as `list` shows it
    return found


def look_up(engine: EngineProfile, device: str, *, say: Say | None = None) -> tuple[Plan, list[str]]:
    """What `create` would make, and every package of it as "name==version", found where pip is configured to look.

    Raises:
        Refused: it cannot be made on this machine.
        InstallFailed: a package is not to be had.
    """
    planned = plan(engine, device)
    root = planned.folder.parent
    _make_root(root)
    trial = root / f".{planned.folder.name}.trial-{os.getpid()}"
    with _locked(trial, None) as lock_fd:
        try:
            installer.make_venv(trial, planned.python, lock_fd, say or (lambda text: None))
            found = installer.install(trial, planned.lock, lock_fd, say or (lambda text: None), only_look=True)
        finally:
            discard(trial)
            lock_file(trial).unlink(missing_ok=True)
    return planned, found


def existing(planned: Plan) -> Environment | None:
    """The environment that `planned` describes, if it is there and whole."""
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


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What was written when an environment was finished; None if it is half-made."""
    try:
        record = json.loads((folder / MARKER).read_bytes())
        return record if {"created", "version", "python_version", "lock_hash"} <= record.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _build(planned: Plan, lock_fd: int, say: Say) -> None:
    """Makes the environment in its place; on any error or interruption nothing is left. Its lock is held."""
    folder, recipe = planned.folder, planned.recipe
    say(f"making {folder.name} from {planned.lock.name} with Python {planned.python_version} (once)")
    discard(folder)
    try:
        installer.make_venv(folder, planned.python, lock_fd, say)
        installer.install(folder, planned.lock, lock_fd, say)
        probed = probe(folder / "bin" / "python", OWN_PACKAGES)
        version = probed["packages"].get(recipe.distribution)
        if recipe.distribution is not None and version is None:
            raise InstallFailed(f"{planned.lock.name} was installed, but {recipe.distribution} is not there")
        record = {
            "engine": planned.engine.name,
            "device": planned.device,
            "version": version,
            "python_version": probed["version"],
            "lock": planned.lock.name,
            "lock_hash": planned.lock_hash,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        half = folder / (MARKER + ".part")
        half.write_text(json.dumps(record, indent=1))
        os.replace(half, folder / MARKER)
    except BaseException:
        discard(folder)
        raise


def discard(folder: Path) -> None:
    """Removes an environment; the marker goes first, so that what an interruption leaves is not taken as whole."""
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise InnerloopError(f"{folder} cannot be removed; remove it by hand")


def remove(folder: Path) -> None:
    """Removes an environment that nothing uses.

    Raises:
        Refused: it is in use, or being made.
    """
    with _locked(folder, None):
        _refuse_in_use(folder)
        discard(folder)


def _refuse_in_use(folder: Path) -> None:
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if any(word.startswith(f"{folder}{os.sep}") for word in process.info["cmdline"] or ()):
            raise Refused(f"{folder.name} is in use by process {process.pid}; end that run first")


def _make_root(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"{root} cannot be made: {error.strerror}", "set INNERLOOP_HOME to a folder that you may write"
        ) from None
    if not os.access(root, os.W_OK):
        raise Refused(f"{root} cannot be written", "set INNERLOOP_HOME to a folder that you may write")


@contextmanager
def _locked(folder: Path, say: Say | None) -> Iterator[int]:
    """Holds the lock of an environment and yields its file descriptor, which children may inherit to hold it too.

    `say` None: don't wait.

    Raises:
        Refused: another process holds it, and `say` is None.
    """
    import fcntl

    fd = os.open(lock_file(folder), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if say is None:
                raise Refused(f"{folder.name} is being made by another process") from None
            say(f"waiting for another process that is making {folder.name}")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def main(argv: list[str] | None = None) -> int:
    """The command `python -m harness.environments`; returns its exit code."""
    from innerloop.harness.environments.commands import main

    return main(argv)
