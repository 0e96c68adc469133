"""result.json, a run's result: written whole, and checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import Refused
from innerloop.harness.schema.spec import VERSION
from innerloop.harness.store.migrations import result_1
from innerloop.harness.store.typed import Misfit, document, typed
from innerloop.harness.store.versions import Document, Migrations, major, migrated, read_document

if TYPE_CHECKING:
    from innerloop.harness.schema.result import Result

FILE = "result.json"
MIGRATIONS: Migrations = {1: result_1.migrate}


def write(run_folder: Path, result: Result) -> Path:
    """Writes result.json whole or not at all, and returns its path.

    Raises:
        OSError: it cannot be written.
    """
    from innerloop.harness.store.documents import write_document

    path = Path(run_folder) / FILE
    write_document(path, document(result))
    return path


def read(run: Path) -> Result:
    """The result of a run, by its folder or by the file itself.

    Raises:
        Refused: there is none, or it is not one, or no migration leads from its version to this one.
    """
    return _checked(run)[1]


def read_plain(run: Path) -> Document:
    """The same as plain data in this major version, with the fields that a newer minor version may have.

    Raises:
        Refused: as `read`.
    """
    return _checked(run)[0]


def read_unchecked(run: Path) -> tuple[Document, Path]:
    """A result as plain data in this major version, whose fields nobody has checked, and its file.

    Raises:
        Refused: there is none, or no migration leads from its version to this one.
    """
    run = Path(run)
    path = run / FILE if run.is_dir() else run
    try:
        found = read_document(path)
    except FileNotFoundError:
        raise Refused(f"there is no {FILE} in {run}" if run.is_dir() else f"there is no file {run}") from None
    if major(found) is None or "status" not in found or "spec" not in found:
        raise Refused(f"{path} is not an innerloop result: schema_version, status or spec is missing")
    return migrated(found, path, VERSION, MIGRATIONS), path


def _checked(run: Path) -> tuple[Document, Result]:
    from innerloop.harness.schema.result import Result  # not needed where a result is compared

    found, path = read_unchecked(run)
    try:
        result = typed(Result, found)
    except Misfit as error:
        raise Refused(f"{path} is incomplete: {error}") from None
    if "kind" not in found:
        raise Refused(f"{path} is incomplete: it lacks kind")
    return found, result
