"""A result laid down in its run's folder, or with a note that says why not."""

from __future__ import annotations

from pathlib import Path

from innerloop.harness.cli.errors import told
from innerloop.harness.result.build import with_note
from innerloop.harness.schema.result import Result
from innerloop.harness.store import result_file


def keep(folder: Path, result: Result, otherwise: str) -> Result:
    """The result once it lies in the folder; where it cannot, with a note of `otherwise` and why."""
    try:
        result_file.write(folder, result)
    except Exception as error:
        return with_note(result, f"{otherwise}: {told(error)}")
    return result
