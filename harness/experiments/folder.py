"""An experiment's folder: its manifest, its journal, its runs, its document, and the lock of who works in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from innerloop.harness import __version__
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import read_json
from innerloop.harness.schema.experiment import VERSION, Event, Manifest
from innerloop.harness.store import journal
from innerloop.harness.store.documents import write_document
from innerloop.harness.store.run_folder import MANIFEST
from innerloop.harness.store.typed import Misfit, document, typed

DOCUMENT, RUNS = "document.json", "runs"
LOCK = ".lock"


def holds_experiment(path: Path) -> bool:
    """Whether a path is an experiment's folder."""
    return (path / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes what is to be run; it is never changed after that."""
    write_document(folder / MANIFEST, document(manifest))


def read_manifest(folder: Path) -> Manifest:
    """What an experiment is to run.

    Raises:
        Refused: the folder holds no experiment, or one of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
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
    return found


def read_events(folder: Path) -> list[Event]:
    """What has happened so far, in order.

    Raises:
        Refused: the journal cannot be read.
    """
    return journal.events(folder, typed)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder, so that one process at a time runs its jobs; the system frees it at a kill.

    Raises:
        Refused: another process has it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Refused(f"another process is running the experiment in {folder}") from None
    try:
        yield
    finally:
        lock.release()


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


def latest_done(events: Sequence[Event]) -> list[str]:
    """The jobs that ended well, in the order of their blocks."""
    newest = {event.job: event for event in events}
    done = [event for event in newest.values() if event.event == "done"]
    return [event.job for event in sorted(done, key=lambda event: event.block)]
