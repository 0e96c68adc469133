"""The folder of one run: a new one of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from innerloop.harness.cli.errors import Refused

RUNS = Path("runs")  # below the current folder
LONGEST_LABEL, LONGEST_LABELS = 32, 80  # characters of a folder's name


def make_folder(out: Path) -> Path:
    """Makes the run's folder, which may be there already as long as it is empty.

    Raises:
        Refused: something else is there, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise Refused(f"--out: {out} is not empty; name a new folder, so that no run is mixed with another")
        if not os.access(out, os.W_OK):
            raise Refused(f"--out: {out} cannot be written")
    except OSError as error:
        raise Refused(f"--out: {out} cannot be made: {error.strerror or error}") from None
    return out.absolute()


def default_folder(*words: str, labels: Iterable[str] = ()) -> Path:
    """A folder under runs/ that is not there yet, called by the time, `words` (engine, model, workload) and the values
    of the labels, as far as they are safe in a name; a second run within the same second gets a number of its own."""
    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    safe = (re.sub(r"[^A-Za-z0-9._]+", "-", value).strip("-._")[:LONGEST_LABEL] for value in labels)
    added = "-".join(filter(None, safe))[:LONGEST_LABELS].rstrip("-._")
    name = "-".join(filter(None, (moment, *words, added)))
    names = (name, *(f"{name}-{k}" for k in range(2, 1000)))
    return next(folder for folder in (RUNS / n for n in names) if not folder.exists())


def remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
