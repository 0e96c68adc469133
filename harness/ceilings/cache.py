"""Where measured ceilings are kept: one JSON file a device, driver and version of torch."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from innerloop.harness.ceilings.model import Ceilings, Key
from innerloop.harness.cli.reading import read_kept
from innerloop.harness.machine import cache_folder
from innerloop.harness.store.atomic import write_text

VERSION = 1  # raise it when what is measured changes
ADDED = ("numa_nodes", "power_limit_w", "turbo", "clock_limits")  # to keys of which some are kept already


def folder() -> Path:
    return cache_folder() / "ceilings"


def path_of(key: Key) -> Path:
    """The file of a key: the device's name for people, and a hash of all of it."""
    words = re.sub(r"[^a-z0-9]+", "-", key.name.lower()).strip("-")[:40]
    fields = {name: value for name, value in asdict(key).items() if name not in ADDED or value is not None}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return folder() / f"{key.device}-{words}-{digest[:12]}.json"


def read(key: Key) -> Ceilings | None:
    """What was kept for `key`; None if nothing was, or what lies there is not what `write` wrote."""
    found = load(path_of(key))
    return found if found is not None and found.key == key else None


def load(path: Path) -> Ceilings | None:
    """One file, checked; None if it cannot be read or makes no sense."""
    try:
        return checked(read_kept(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def every() -> list[Ceilings]:
    """All that is kept, by file name."""
    found = [load(path) for path in sorted(folder().glob("*.json"))] if folder().is_dir() else []
    return [one for one in found if one is not None]


def names() -> list[str]:
    """The names under which ceilings are kept, also of files that cannot be read."""
    return sorted(path.stem for path in folder().glob("*.json")) if folder().is_dir() else []


def remove(name: str) -> None:
    """Forgets what is kept under a name; another process may have done so."""
    (folder() / f"{name}.json").unlink(missing_ok=True)


def checked(data: Any) -> Ceilings:
    """
    Raises:
        ValueError, KeyError, TypeError, AttributeError: this is not a measurement of this version.
    """
    if data["version"] != VERSION:
        raise ValueError("measured by another version of innerloop")
    fields = {name: data[name] for name in Ceilings.__slots__}
    fields["key"] = Key(**fields["key"])
    found = Ceilings(**fields)
    rates = [found.memory["copy_bytes_per_s"], found.memory["read_bytes_per_s"]]
    rates += [rate for one in found.matrix.values() if (rate := one["ops_per_s"]) is not None]
    if not all(isinstance(rate, (int, float)) and 1e3 < rate < 1e20 for rate in rates):
        raise ValueError(f"invalid rates: {rates}")
    if datetime.fromisoformat(found.measured).tzinfo is None:
        raise ValueError("no time zone")
    numbers = [found.memory["array_bytes"], found.other_cores, found.other_gpu_share, *(found.clocks or {}).values()]
    if not all(number is None or isinstance(number, (int, float)) for number in numbers):
        raise ValueError(f"invalid numbers: {numbers}")
    return found


def write(made: Ceilings) -> Path:
    """Keeps a measurement, whole or not at all; returns its file. What cannot be kept is only measured again."""
    path = path_of(made.key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"version": VERSION, **asdict(made)}, indent=1), contended=True)
    return path
