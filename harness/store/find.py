"""The run or experiment that a user names: by its path, by its name in runs/ or experiments/, or as the last run."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from innerloop.harness.cli.errors import Refused, closest
from innerloop.harness.store import result_file, waterfall_file
from innerloop.harness.store.run_folder import EXPERIMENTS, RUNS
from innerloop.harness.store.stored import JOB, open

LAST = "last"


def find_run(name: str) -> Path:
    """The path of a run or an experiment: `name` itself where it exists, else the folder of that name in runs/ or
    experiments/; `last` is the newest run.

    Raises:
        Refused: there is none; says which name is nearest.
    """
    if name == LAST:
        return newest()
    for path in (Path(name), RUNS / name, EXPERIMENTS / name):
        if path.exists():
            return path
    if "/" in name:
        raise Refused(f"there is no file {name}")
    close = closest(name, [path.name for root in (RUNS, EXPERIMENTS) for path in folders(root)])
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise Refused(f"there is no run {name!r} here or in {RUNS}/{hint}", "list them with innerloop runs")


def newest() -> Path:
    """The run in runs/ that was started last, whatever became of it.

    Raises:
        Refused: there is none.
    """
    found = [(_begun(path), path.name, path) for path in folders() if _holds_run(path)]
    if not found:
        raise Refused(f"there is no run in {RUNS}/ yet")
    return max(found)[2]


def _holds_run(folder: Path) -> bool:
    try:
        return open(folder).kind != "nothing"
    except OSError:  # another user's: it takes nothing from the others
        return False


def folders(root: Path = RUNS) -> list[Path]:
    """The folders in which runs may lie, by name."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in found if os.path.isdir(path) and not path.name.startswith("."))


def _begun(folder: Path) -> float:
    """When a run began, as well as its files tell: its job is written once, at the start."""
    for path in (*(folder / file for file in (JOB, waterfall_file.FILE, result_file.FILE)), folder):
        with suppress(OSError):  # it is not there, or being removed
            return path.stat().st_mtime
    return 0.0
