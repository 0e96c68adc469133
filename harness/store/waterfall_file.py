"""waterfall.json, the document of a run of several layers: written whole, and checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import Refused
from innerloop.harness.store.migrations import waterfall_1
from innerloop.harness.store.typed import Misfit, document, typed
from innerloop.harness.store.versions import Document, Migrations, major, migrated, read_document

if TYPE_CHECKING:
    from innerloop.harness.schema.waterfall import Waterfall

FILE = "waterfall.json"
MIGRATIONS: Migrations = {1: waterfall_1.migrate}


def write(folder: Path, waterfall: Waterfall) -> Path:
    """Writes waterfall.json whole or not at all, and returns its path.

    Raises:
        OSError: it cannot be written.
    """
    from innerloop.harness.store.documents import write_document

    path = folder / FILE
    write_document(path, document(waterfall))
    return path


def read(path: Path) -> Waterfall:
    """The waterfall of a ladder, by its folder or by the file itself.

    Raises:
        Refused: there is none, or it is not one, or no migration leads from its version to this one.
    """
    return _checked(path)[1]


def read_plain(path: Path) -> Document:
    """The same as plain data in this major version, with the fields that a newer minor version may have.

    Raises:
        Refused: as `read`.
    """
    return _checked(path)[0]


def _checked(path: Path) -> tuple[Document, Waterfall]:
    from innerloop.harness.schema.waterfall import VERSION, Waterfall

    path = path / FILE if path.is_dir() else path
    try:
        found = read_document(path)
    except FileNotFoundError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    if found.get("kind") != "waterfall" or major(found) is None:
        raise Refused(f"{path} is not the result of a run with --layers")
    found = migrated(found, path, VERSION, MIGRATIONS)
    try:
        return found, typed(Waterfall, found)
    except Misfit as error:
        raise Refused(f"{path} is incomplete: {error}") from None
