"""An experiment's folder: its manifest, its journal, its runs, its document, and the lock of who works in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from innerloop.harness import __version__
from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.cli.reading import is_there, read_json
from innerloop.harness.experiments.sound import odd, unsound
from innerloop.harness.schema.experiment import VERSION, Event, Manifest
from innerloop.harness.store import journal
from innerloop.harness.store.documents import write_document
from innerloop.harness.store.run_folder import MANIFEST
from innerloop.harness.store.typed import Misfit, document, typed

DOCUMENT, RUNS = "document.json", "runs"
LOCK = ".lock"
LOOKED_AT_S = 0.2  # for which another process may hold the lock only to look whether it is held


def holds_experiment(path: Path) -> bool:
    """Whether a path is an experiment's folder."""
    try:
        return is_there(path / MANIFEST)
    except OSError:  # another user's folder
        return False


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes what is to be run; it is never changed after that."""
    write_document(folder / MANIFEST, document(manifest))


def read_manifest(folder: Path) -> Manifest:
    """What an experiment is to run.

    Raises:
        Refused: the folder holds no experiment, or one of another version.
    """
    path = folder / MANIFEST
    if not is_there(path):
        raise Refused(f"{folder} is not an experiment: it has no {MANIFEST}")
    try:
        found = typed(Manifest, read_json(path, str(path)))
    except Misfit as error:
        raise Refused(f"{path} is incomplete: {error}") from None
    if found.schema_version.partition(".")[0] != "1":
        raise Refused(
            f"{path} has schema version {found.schema_version}, but innerloop {__version__} reads only "
            f"version {VERSION}",
            f"Read it with the version that wrote it ({found.innerloop_version}).",
        )
    if why := unsound(found):
        raise Refused(f"{path} is damaged: {why}")
    return found


def read_events(folder: Path) -> list[Event]:
    """What has happened so far, in order.

    Raises:
        Refused: the journal cannot be read.
    """
    return journal.events(folder, checked_event)


def checked_event(kind: type[Event], data: Any) -> Event:
    """A line of a journal.

    Raises:
        Misfit: it is no event, or one of a run that cannot lie in the folder.
    """
    event = typed(kind, data)
    if why := odd(event):
        raise Misfit(why)
    return event


def held(folder: Path) -> bool:
    """Whether a process is running the experiment. It only looks, also into a folder of somebody else's."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder, so that one process at a time runs its jobs; the system frees it at a kill.

    Raises:
        Refused: another process has it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=LOOKED_AT_S, poll_interval=LOOKED_AT_S / 10)
    except Timeout:
        raise Refused(f"another process is running the experiment in {folder}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Around the running of an experiment.

    Raises:
        InnerloopError: its folder is no longer there, whatever else that led to.
    """
    try:
        yield
    except (OSError, Refused):
        check_kept(folder)
        raise
    check_kept(folder)


def check_kept(folder: Path) -> None:
    """Raises: InnerloopError: the folder of an experiment that is running is no longer there."""
    if not os.path.lexists(folder / MANIFEST):
        raise InnerloopError(f"{folder} was removed or renamed during the experiment: its records are not there")


def put_aside(run: Path) -> None:
    """Makes room for a run: what an interrupted one left in its folder is kept under a name of its own."""
    if not run.exists():
        return
    number = next(n for n in range(1, 100_000) if not run.with_name(f"{run.name}.cut-{n}").exists())
    run.rename(run.with_name(f"{run.name}.cut-{number}"))


def failed_jobs(events: Sequence[Event]) -> list[Event]:
    """The newest event of each job that failed."""
    newest = {event.job: event for event in events}
    return [event for event in newest.values() if event.event == "failed"]


def unmake(folder: Path) -> None:
    """Takes back an experiment of which no run was begun."""
    for name in (MANIFEST, DOCUMENT, LOCK, journal.FILE):
        (folder / name).unlink(missing_ok=True)
    for path in (folder / RUNS, folder):
        with suppress(OSError):
            path.rmdir()


def place_of(folder: Path, event: Event) -> Path:
    """The folder of a run, which is elsewhere where it had been made before."""
    return Path(event.run) if event.run else folder / RUNS / event.job


def runs_done(folder: Path, events: Sequence[Event]) -> list[Path]:
    """The folders of the runs that ended well, in the order of their blocks, each once."""
    newest = {event.job: event for event in events}
    done = [event for event in newest.values() if event.event == "done"]
    return list(dict.fromkeys(place_of(folder, event) for event in sorted(done, key=lambda event: event.block)))
