"""A stored run as a comparison reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.result.figures import FIGURES
from innerloop.harness.schema.compared_run import ComparedRun
from innerloop.harness.store import result_file
from innerloop.harness.store.typed import Misfit, typed


def read_compared(run: Path) -> ComparedRun:
    """The result of a run, by its folder or by the file itself.

    Raises:
        Refused: there is none, or it is not one, or no migration leads from its version to this one.
    """
    document, path = result_file.read_unchecked(run)
    figures = {one.name: _at(document, one.name) for one in FIGURES}
    try:
        more = {"idle": _at(document, "time_share.idle"), "verified": _at(document, "verification.passed")}
        return typed(ComparedRun, {**document, "figures": figures, **more})
    except Misfit as error:
        raise Refused(f"{path} is incomplete: {error}") from None


def _at(document: Mapping[str, Any], name: str) -> Any:
    """A field by its dotted name; None where the document lacks it."""
    found: Any = document
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
