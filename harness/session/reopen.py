"""Runs that are there, opened again: by the path of a folder or of a file in it."""

from __future__ import annotations

from pathlib import Path

from innerloop.harness import store
from innerloop.harness.analysis.chunks import said
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.output import tell
from innerloop.harness.export import perfetto
from innerloop.harness.schema.result import Result
from innerloop.harness.session.recover import recover
from innerloop.harness.store.typed import document
from innerloop.harness.store.versions import Document


def result_of(stored: store.StoredRun) -> tuple[Result, Document]:
    """A run's result, typed and as the document that is stored; made first where its harness was killed.

    Raises:
        Refused: there is no such run, or it is still going on.
    """
    if stored.kind == "run" or not stored.path.is_dir():
        return stored.result(), stored.document()
    result = recover(stored.path)
    return result, document(result)


def write_trace(run: Path) -> Path:
    """Writes the Perfetto trace of a run, with or without a result, and returns its path.

    Raises:
        Refused: there is no such run, or it has several layers. OSError: it cannot be written.
    """
    stored = store.open(run)
    if isinstance(stored, store.StoredLadder):
        raise Refused(f"{run} contains one run per layer; name one of its subfolders")
    folder, inside = stored.folder, stored.in_folder()
    result = inside.result() if inside.kind == "run" else recover(folder)
    with said(f"writing {perfetto.FILE}", tell):
        return perfetto.write(folder, result)
