"""What a path holds: a run, with or without a result, or a run of several layers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import is_there, read_json
from innerloop.harness.store import result_file, waterfall_file
from innerloop.harness.store.documents import plain
from innerloop.harness.store.versions import Document

if TYPE_CHECKING:
    from innerloop.harness.schema.result import Result
    from innerloop.harness.schema.waterfall import Waterfall
    from innerloop.harness.store.tables import Tables

JOB = "job.json"
RECORDS = "steps.parquet"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run's folder, or a file in one. What lies in it is read when it is asked for.

    kind: "run" has a result. "interrupted" has a job and no result: its harness was killed, or is still at work.
    "pass" is the job of a profiling pass or a verification. "records" has tables and nothing else. "nothing" is no run.
    """

    path: Path
    kind: Literal["run", "interrupted", "pass", "records", "nothing"]

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def in_folder(self) -> StoredRun:
        """The run of the folder, whichever of its files `path` names."""
        return _run_in(self.folder)

    def result(self) -> Result:
        """The result in the folder, or the named file.

        Raises:
            Refused: there is no result, or it cannot be read.
        """
        return result_file.read(self.path)

    def document(self) -> Document:
        """The same as plain data in this major version, with what a newer minor version added.

        Raises:
            Refused: as `result`.
        """
        return result_file.read_plain(self.path)

    def tables(self) -> Tables:
        """The records of the folder.

        Raises:
            Refused: a file of another version of innerloop.
        """
        from innerloop.harness.store.tables import read_tables

        return read_tables(self.folder)


@dataclass(frozen=True, slots=True)
class StoredLadder:
    """A folder with a run of each layer, or its waterfall.json, which is read when it is asked for."""

    path: Path
    kind: Literal["ladder"] = "ladder"

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def waterfall(self) -> Waterfall:
        """The waterfall in the folder, or the named file.

        Raises:
            Refused: the waterfall cannot be read.
        """
        return waterfall_file.read(self.path)

    def document(self) -> Document:
        """The same as plain data in this major version, with what a newer minor version added.

        Raises:
            Refused: as `waterfall`.
        """
        return waterfall_file.read_plain(self.path)


def open(path: Path) -> StoredRun | StoredLadder:
    """Says what `path` is: a run's folder, its result.json, a folder of --layers, its waterfall.json, or nothing.

    Any other file that exists is taken for a result under another name; reading it tells.
    """
    if is_there(path / waterfall_file.FILE) if path.is_dir() else path.name == waterfall_file.FILE:
        return StoredLadder(path)
    return _run_in(path) if path.is_dir() else StoredRun(path, "run" if is_there(path) else "nothing")


def no_run(folder: Path) -> Refused:
    """What to say of a folder that is no run and, where it holds some, how to list them."""
    hint = [f"it holds runs; list them with innerloop runs {quote(str(folder))}"] if _holds_runs(folder) else []
    return Refused(f"{folder} is not a run: it has neither {result_file.FILE} nor {JOB}", *hint)


def _holds_runs(folder: Path) -> bool:
    """Whether runs lie in a folder, as far as it and what lies in it may be looked at."""
    with suppress(OSError):
        for one in folder.iterdir():
            with suppress(OSError):  # as among others' in /tmp
                if one.is_dir() and _run_in(one).kind != "nothing":
                    return True
    return False


def read_job(folder: Path) -> Document:
    """The job of a run's folder.

    Raises:
        Refused: there is none, or it is not one.
    """
    path = folder / JOB
    try:
        if not is_there(path):
            raise FileNotFoundError
        job = plain(read_json(path, str(path)))
        if not isinstance(job["spec"], dict):
            raise ValueError("its spec is not a mapping")
    except FileNotFoundError:
        raise no_run(folder) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is not a valid job.json: {error}") from None
    return job


def _run_in(folder: Path) -> StoredRun:
    if is_there(folder / result_file.FILE):
        return StoredRun(folder, "run")
    if is_there(folder / JOB):
        return StoredRun(folder, "pass" if _is_pass(folder) else "interrupted")
    return StoredRun(folder, "records" if is_there(folder / RECORDS) else "nothing")


def _is_pass(folder: Path) -> bool:
    try:
        job = read_job(folder)
        return job.get("profile") is not None or bool(job.get("verification"))
    except Refused:
        return False
