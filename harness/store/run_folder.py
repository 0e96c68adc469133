"""The folder of one run: a new one of its own, claimed by making it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

from innerloop.harness.cli.errors import Refused

RUNS, EXPERIMENTS = Path("runs"), Path("experiments")  # below the current folder
MANIFEST = "manifest.json"  # what makes a folder an experiment's
LONGEST_LABEL, LONGEST_LABELS = 32, 80  # characters of a folder's name
CLAIM = ".claim"  # locked by the one run that has the folder: the system frees it at a kill
_claims: dict[Path, int] = {}  # of this process, by folder


def make_folder(out: Path, numbered: bool = False) -> Path:
    """Makes the run's folder, which may be there already as long as it is empty, and claims it: of two runs that are
    given the same one at the same moment, one is refused.

    `numbered`: the name is innerloop's own choice, so where it is taken the next free number is put behind it.

    Raises:
        Refused: something else is there, another run has it, or it cannot be made.
    """
    refuse_unwritable_name(out.absolute())
    try:
        for number in count(1):
            folder = out.with_name(f"{out.name}-{number}") if number > 1 else out
            if _claim(folder):
                return folder.absolute()
            if not numbered:
                break
    except OSError as error:
        raise Refused(
            f"--out: {out} cannot be created: {error.strerror or error}", "name a folder with --out that can be"
        ) from None
    raise Refused(f"--out: {out} is not empty; name a new folder, so that runs do not mix")


def _claim(folder: Path) -> bool:
    """Makes the folder and takes it; False if it is not empty or somebody else has it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / CLAIM, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino != (folder / CLAIM).stat().st_ino:
            raise BlockingIOError  # whoever had it has released it meanwhile, and something lies there now
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        return False
    if any(path.name != CLAIM for path in folder.iterdir()):
        (folder / CLAIM).unlink()
        os.close(handle)
        return False
    _claims[folder.absolute()] = handle
    return True


def release(folder: Path) -> None:
    """Ends the claim, once something else lies in the folder, which no other run will take then. A folder in which
    nothing lies is removed."""
    handle = _claims.pop(folder.absolute(), None)
    with suppress(OSError):
        (folder / CLAIM).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    if handle is not None:
        os.close(handle)


def refuse_unwritable_name(out: Path) -> None:
    """Raises: Refused: the path is not UTF-8, so that no document could name it."""
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise Refused(f"--out: {str(out).encode('utf-8', 'backslashreplace').decode()} is not UTF-8") from None


def default_folder(*words: str, labels: Iterable[str] = ()) -> Path:
    """A folder under runs/, called by the time, `words` (engine, model, workload) and the values of the labels, as far
    as they are safe in a name; `make_folder` numbers it where it is taken."""
    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    safe = (re.sub(r"[^A-Za-z0-9._]+", "-", value).strip("-._")[:LONGEST_LABEL] for value in labels)
    added = "-".join(filter(None, safe))[:LONGEST_LABELS].rstrip("-._")
    return RUNS / "-".join(filter(None, (moment, *words, added)))
