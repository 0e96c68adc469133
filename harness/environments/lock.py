"""A lock as a file: whole, and with the engine in it."""

from __future__ import annotations

import re
from pathlib import Path

from innerloop.harness.cli.errors import Refused

PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==[^\s;\\]+")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?=\s|$)")


def entries(text: str) -> dict[str, int]:
    """The packages of a lock by their normalised names, each with the number of its hashes.

    Raises:
        ValueError: a line is neither; the text does not end where an entry does.
    """
    found: dict[str, int] = {}
    if not text.endswith("\n") or text.rstrip().endswith("\\"):
        raise ValueError("its last line is cut short")
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pinned = PINNED.match(line)
        if pinned is None:
            raise ValueError(f"line {line.strip()[:60]!r} cannot be parsed")
        if line.count("--hash=") != len(HASH.findall(line)):
            raise ValueError(f"a hash of {pinned[0]} is damaged")
        found[normalised(pinned[1])] = len(HASH.findall(line))
    return found


def normalised(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check(lock: Path, distribution: str | None) -> None:
    """Before anything is installed from it. `distribution`: the engine's own package; None: any will do.

    Raises:
        Refused: the file is damaged, or lacks the engine.
    """
    advice = "reinstall innerloop"
    try:
        found = entries(lock.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refused(f"the lock {lock.name} is damaged: {error}", advice) from None
    if not found or (distribution is not None and normalised(distribution) not in found):
        raise Refused(
            f"the lock {lock.name} is damaged: it lists no {'packages' if not found else distribution}", advice
        )
