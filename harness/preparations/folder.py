"""One prepared folder: found whole in the cache, or made there by one process at a time."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.reading import read_kept
from innerloop.harness.cli.slowly import Slowly
from innerloop.harness.preparations.command import PreparationFailed, fill, run
from innerloop.harness.store.atomic import sync_folder
from innerloop.harness.store.folders import Say, discard, disk_errors, locked, sweep, written_whole

if TYPE_CHECKING:
    from innerloop.harness.environments.environment import Environment

CONTENT = "content"  # what the command has written
RECORD = "preparation.json"  # what it was made of, and the sizes of its files
LOG = "preparation.log"  # what the command printed
ADVICE = "free some space, or set INNERLOOP_HOME to another disk"


@dataclass(frozen=True, slots=True)
class PreparedFolder:
    """`seconds` is what making it took now: 0 where it was there (`cached`)."""

    path: Path
    seconds: float
    cached: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A folder to be had. `what`: for people, "model for MLC-LLM". `places`: the paths that {NAME} in `command` stands
    for, but for {output}."""

    what: str
    path: Path
    key: str
    made_of: Mapping[str, Any]
    command: tuple[str, ...]
    places: Mapping[str, str]


def obtain(wanted: Wanted, environment: Environment, say: Say, limit_s: float | None) -> PreparedFolder:
    """The folder from the cache, or made now.

    Raises:
        PreparationFailed, DiskFull: as `prepare_all`.
    """
    path, seconds = wanted.path, 0.0
    problem = fault(path, wanted.key)
    if problem is not None:
        with disk_errors(path, ADVICE):
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path, say):
                problem = fault(path, wanted.key)
                if problem is not None:
                    if path.exists():
                        say(f"{path.name} is damaged ({problem}); creating it again")
                    begun = time.monotonic()
                    make(wanted, environment, say, limit_s)
                    seconds = time.monotonic() - begun
                    say(f"{wanted.what} prepared in {seconds:.1f} s")
    return PreparedFolder(path / CONTENT, seconds, problem is None)


def make(wanted: Wanted, environment: Environment, say: Say, limit_s: float | None) -> None:
    """Makes the folder in place of a damaged one; its lock is held."""
    path = wanted.path
    log = path.with_name(f"{path.name}.log")
    discard(path)
    sweep(path.parent)
    log.unlink(missing_ok=True)
    progress = Progress(say, wanted.what, log)
    with written_whole(path) as half_made:
        # By a name of its own, so that what the command of a killed harness still writes for a moment goes nowhere.
        output = half_made / f"{CONTENT}-{uuid.uuid4().hex}"
        output.mkdir()
        command = fill(wanted.command, {**wanted.places, "output": str(output)})
        begun = time.monotonic()
        try:
            run(command, environment, half_made, log, progress.running, limit_s)
        except PreparationFailed as error:
            raise PreparationFailed(f"{wanted.what} could not be prepared: {error}", *error.details) from None
        seconds = time.monotonic() - begun
        content = output.rename(half_made / CONTENT)
        files = sizes(content)
        if not files:
            raise PreparationFailed(
                f"{wanted.what} could not be prepared: its command wrote no files", f"its output is in {log}"
            )
        sync_all(content, progress.writing)
        record = {
            "key": wanted.key,
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": seconds,
            "files": files,
            "made_of": wanted.made_of,
        }
        with (half_made / RECORD).open("x") as file:
            file.write(json.dumps(record, indent=1))
            file.flush()
            os.fsync(file.fileno())
        log.rename(half_made / LOG)


def fault(path: Path, key: str) -> str | None:
    """What is wrong with a prepared folder; None: it is whole. Sizes are compared, contents are not read."""
    try:
        record = read_kept(path / RECORD)
        if record["key"] != key:
            return "it was made from different inputs"
        for name, size in record["files"].items():
            found = (path / CONTENT / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes instead of {size}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{RECORD} cannot be read: {error}"
    return None


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of every file below a folder, by its path there."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.stat().st_size for file in files}


def sync_all(folder: Path, tick: Callable[[], None]) -> None:
    """Waits until all that is below a folder is on the disk."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            sync_folder(path)  # which files take as well
            tick()


class Progress:
    """Says what goes on and for how long, once it takes longer than a moment."""

    def __init__(self, say: Say, what: str, log: Path) -> None:
        self._slowly, self._what, self._log = Slowly(say), what, log

    def running(self) -> None:
        self._slowly.tick(f"preparing {self._what}", f" (once; its output goes to {self._log})")

    def writing(self) -> None:
        self._slowly.tick(f"writing {self._what} to disk")
