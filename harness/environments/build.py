"""Makes and removes innerloop's own environments: one process at a time, whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.cli.signals import hold
from innerloop.harness.environments import installer, lock
from innerloop.harness.environments.environment import OWN_PACKAGES, Environment
from innerloop.harness.environments.folders import (
    MARKER,
    VERSION_LOCK,
    Plan,
    discard,
    end_trial,
    existing,
    kept_aside,
    locked,
    plan,
    read_marker,
    remove_trials,
    settle,
    trial_of,
)
from innerloop.harness.environments.installer import Say
from innerloop.harness.environments.interpreters import probe

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import EngineProfile


def create(engine: EngineProfile, device: str, *, say: Say | None = None, recreate: bool = False) -> Environment:
    """The engine's environment, made now unless it is there already. `say` hears what is going on, a line at a time.

    Of two processes that ask at once, one makes it and the other waits.

    Raises:
        Refused: it cannot be made on this machine.
        InstallFailed: the installer failed; its words are in `details`, and nothing is left but the one that was there.
    """
    say = say or (lambda text: None)
    planned = plan(engine, device)
    found = None if recreate else existing(planned)
    if found is None:
        make_root(planned.folder.parent)
        remove_trials(planned.folder.parent)
        with locked(planned.folder, say) as lock_fd:
            settle(planned.folder)
            found = None if recreate else existing(planned)
            if found is None:
                if recreate:
                    _refuse_in_use(planned.folder)
                _build(planned, lock_fd, say)
                found = existing(planned)
    if found is None:
        raise InstallFailed(f"the environment in {planned.folder} was created but does not work")
    with suppress(OSError):  # another user's, or read-only: it is used all the same
        os.utime(planned.folder / MARKER)  # the last use, as `list` shows it
    return found


def look_up(engine: EngineProfile, device: str, *, say: Say | None = None) -> tuple[Plan, list[str]]:
    """What `create` would make, and every package of it as "name==version", found where pip is configured to look.

    Raises:
        Refused: it cannot be made on this machine.
        InstallFailed: a package is not to be had.
    """
    planned = plan(engine, device)
    lock.check(planned.lock, planned.recipe.distribution)
    root = planned.folder.parent
    make_root(root)
    remove_trials(root)
    trial = trial_of(planned.folder)
    with hold() as held, locked(trial, None) as lock_fd:
        try:
            with held.released():
                installer.make_venv(trial, planned.python, lock_fd, say or (lambda text: None))
                found = installer.install(trial, planned.lock, lock_fd, say or (lambda text: None), only_look=True)
        finally:
            end_trial(trial)
    return planned, found


def _build(planned: Plan, lock_fd: int, say: Say) -> None:
    """Makes the environment in its place; on any error or interruption nothing is left but the one that was there.
    Its lock is held."""
    folder, recipe = planned.folder, planned.recipe
    say(f"creating {folder.name} from {planned.lock.name} with Python {planned.python_version} (once)")
    lock.check(planned.lock, recipe.distribution)
    with hold() as held:
        if read_marker(folder) is None:
            discard(folder)
        else:
            os.rename(folder, kept_aside(folder))
        try:
            with held.released():
                installer.make_venv(folder, planned.python, lock_fd, say)
                installer.install(folder, planned.lock, lock_fd, say)
                probed = probe(folder / "bin" / "python", OWN_PACKAGES)
            version = probed["packages"].get(recipe.distribution or "")
            if recipe.distribution is not None and version is None:
                raise InstallFailed(
                    f"{planned.lock.name} was installed, but {recipe.distribution} is missing",
                    "if uv.toml has target or prefix, take them out: they put packages elsewhere",
                )
            record = {
                "engine": planned.engine.name,
                "device": planned.device,
                "version": version,
                "python_version": probed["version"],
                "lock": planned.lock.name,
                "lock_hash": planned.lock_hash,
                "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
            if planned.engine.pinned is not None:
                (folder / VERSION_LOCK).write_bytes(planned.lock.read_bytes())
            half = folder / (MARKER + ".part")
            half.write_text(json.dumps(record, indent=1))
            os.replace(half, folder / MARKER)
        except BaseException:
            discard(folder)
            settle(folder)
            raise
        settle(folder)


def remove(folder: Path) -> None:
    """Removes an environment that nothing uses.

    Raises:
        Refused: it is in use, or being made.
    """
    with locked(folder, None):
        _refuse_in_use(folder)
        discard(kept_aside(folder))
        discard(folder)


def _refuse_in_use(folder: Path) -> None:
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if any(word.startswith(f"{folder}{os.sep}") for word in process.info["cmdline"] or ()):
            raise Refused(f"{folder.name} is in use by process {process.pid}; end that run first")


def make_root(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"{root} cannot be created: {error.strerror}", "set INNERLOOP_HOME to a writable folder"
        ) from None
    if not os.access(root, os.W_OK):
        raise Refused(f"{root} is not writable", "set INNERLOOP_HOME to a writable folder")
