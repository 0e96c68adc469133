"""waterfall.json, the document of a run of several layers: written whole, and checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerloop.harness import __version__
from innerloop.harness.cli.errors import Refused

FILE = "waterfall.json"
SCHEMA_VERSION = 1
PARTS = {  # of the document, without which it cannot be shown
    "innerloop_version", "status", "engine", "model", "dtype", "device", "workload", "workload_hash", "layers",
    "trials", "tokens_per_step", "rungs", "differences", "paced_by_load", "client",
}  # fmt: skip
RUNG_PARTS = {"name", "kind", "reason", "trials", "s_per_output_token", "s_per_output_token_range", "runs"}


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    """Writes waterfall.json whole or not at all, and returns its path.

    Raises:
        OSError: it cannot be written.
    """
    from innerloop.harness.store.documents import write_document

    path = folder / FILE
    write_document(path, document)
    return path


def read(path: Path) -> dict[str, Any]:
    """The waterfall of a ladder, by its folder or by the file itself.

    Raises:
        Refused: it is not one, or a newer innerloop wrote it.
    """
    path = path / FILE if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("kind") != "waterfall":
        raise Refused(f"{path} is not a waterfall of innerloop")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise Refused(
            f"{path} has schema version {document.get('schema_version')}, and this innerloop ({__version__}) reads"
            f" version {SCHEMA_VERSION}"
        )
    rungs = document.get("rungs")
    whole = isinstance(rungs, list) and all(isinstance(rung, dict) and rung.keys() >= RUNG_PARTS for rung in rungs)
    if not whole or not document.keys() >= PARTS:
        lost = ", ".join(sorted(PARTS - document.keys())) or "a rung's figures"
        raise Refused(f"{path} is not whole: it lacks {lost}")
    return document
