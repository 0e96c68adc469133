"""Where measured noise is kept: one JSON file a machine and load, in the cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.machine import NoHome, cache_folder
from innerloop.harness.schema.noise import VERSION, Noise
from innerloop.harness.store.documents import plain, write_document
from innerloop.harness.store.typed import Misfit, document, typed
from innerloop.harness.store.versions import major, read_document


def folder() -> Path:
    return cache_folder() / "noise"


def path_of(machine: Mapping[str, Any], load: Mapping[str, Any]) -> Path:
    """The file of a machine and a load: engine and workload for people, and a hash of all of it."""
    whole = json.dumps([plain(machine), plain(load)], sort_keys=True)
    return folder() / f"{load.get('engine')}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}.json"


def write(noise: Noise) -> Path:
    """Keeps it, in the place of what was measured before, and returns its path.

    Raises:
        OSError: it cannot be written.
    """
    path = path_of(noise.machine, noise.load)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_document(path, document(noise), contended=True)
    return path


def read(machine: Mapping[str, Any], load: Mapping[str, Any]) -> Noise | None:
    """What was measured for them; None if nothing was, or it cannot be read."""
    try:
        found = _load(path_of(machine, load))
    except NoHome:
        return None
    return found if found is not None and plain(found.machine) == plain(machine) else None


def every() -> list[Noise]:
    """All that is kept, by file name."""
    found = [_load(path) for path in sorted(folder().glob("*.json"))] if folder().is_dir() else []
    return [one for one in found if one is not None]


def _load(path: Path) -> Noise | None:
    """One file; None if it is no noise that this version reads: measuring it anew replaces it."""
    try:
        found = read_document(path)
        return typed(Noise, found) if major(found) == int(VERSION.partition(".")[0]) else None
    except (FileNotFoundError, Refused, Misfit):
        return None
