"""The run or experiment that a user names: by its path, by its name in runs/ or experiments/, or as the last one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from innerloop.harness.cli.errors import Refused, closest
from innerloop.harness.cli.reading import is_there
from innerloop.harness.store import result_file, waterfall_file
from innerloop.harness.store.run_folder import EXPERIMENTS, MANIFEST, RUNS
from innerloop.harness.store.stored import JOB, open

LAST = "last"
MOST_NAMED = 3  # runs of an experiment


def find_run(name: str) -> Path:
    """The path of a run or an experiment: `name` itself where it exists, else the folder of that name in runs/ or
    experiments/; `last` is the newest of both.

    Raises:
        Refused: there is none; says which name is nearest.
    """
    if name == LAST:
        return newest()
    if not name.strip():
        raise Refused("the name of a run or an experiment is blank", "list them with innerloop runs")
    for path in (Path(name), RUNS / name, EXPERIMENTS / name, Path(os.path.expanduser(name))):
        if path.exists():
            return path
    if "/" in name:
        raise Refused(f"there is no file {name}")
    close = closest(name, [path.name for root in (RUNS, EXPERIMENTS) for path in folders(root)])
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise Refused(f"there is no run {name!r} here or in {RUNS}/{hint}", "list them with innerloop runs")


def newest() -> Path:
    """What was started last, whatever became of it: a run in runs/ or an experiment in experiments/, whose own runs do
    not count.

    Raises:
        Refused: there is none.
    """
    found = [path for path in folders() if _holds_run(path)]
    found += [path for root in (RUNS, EXPERIMENTS) for path in folders(root) if _holds_experiment(path)]
    if not found:
        raise Refused(f"there is no run in {RUNS}/ and no experiment in {EXPERIMENTS}/ yet")
    return max((_begun(path), path.name, path) for path in found)[2]


def _holds_run(folder: Path) -> bool:
    try:
        return open(folder).kind != "nothing"
    except OSError:  # another user's: it takes nothing from the others
        return False


def _holds_experiment(folder: Path) -> bool:
    try:
        return is_there(folder / MANIFEST)
    except OSError:  # as above
        return False


def find_one(name: str) -> Path:
    """The same of what can only be done with one run.

    Raises:
        Refused: there is none, or it is an experiment; says which runs that has.
    """
    path = find_run(name)
    if not is_there(path / MANIFEST):
        return path
    inside = path / RUNS
    runs = [str(inside / one.name) for one in folders(inside) if _holds_run(one)]
    left = len(runs) - MOST_NAMED
    named = ", ".join(runs[:MOST_NAMED]) + (f" or one of {left} more" if left > 0 else "")
    of = f"{name} ({path})" if name == LAST else str(path)
    hint = f"name one of its runs: {named}" if runs else "none of its runs has begun"
    raise Refused(f"{of} is an experiment, and this needs one run", hint)


def folders(root: Path = RUNS) -> list[Path]:
    """The folders in which runs may lie, by name."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in found if os.path.isdir(path) and not path.name.startswith("."))


def _begun(folder: Path) -> float:
    """When it began, as well as its files tell: a run's job, and an experiment's manifest, are written once, at the
    start."""
    files = (MANIFEST, JOB, waterfall_file.FILE, result_file.FILE)
    for path in (*(folder / file for file in files), folder):
        with suppress(OSError):  # it is not there, or being removed
            return path.stat().st_mtime
    return 0.0
