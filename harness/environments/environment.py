"""An engine's environment: the interpreter that its worker is started with, and the variables that the worker gets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import Recipe

OWN_PACKAGES = {"PYTHONPATH": ""}  # a user's own would put foreign packages before the engine's
PREFIX = 2  # which parent of a site folder is its environment: PREFIX/lib/python3.12/site-packages


@dataclass(frozen=True, slots=True)
class Environment:
    """An interpreter that an engine can be started with.

    folder, lock_hash, created: None where it is the user's own. lock_hash: SHA-256 of the lock file, hex. created: UTC,
    ISO 8601. variables: what the worker's environment needs. version: the engine's. name, sites: of a registered one,
    the folders that are put on PYTHONPATH.
    """

    engine: str
    device: str
    python: Path
    folder: Path | None
    lock_hash: str | None
    created: str | None
    variables: Mapping[str, str]
    version: str | None
    python_version: str
    name: str | None = None
    sites: tuple[Path, ...] = ()


def worker_variables(recipe: Recipe, prefix: Path, sites: Sequence[Path] = ()) -> dict[str, str]:
    """The environment variables of a worker whose packages lie under `prefix`, or in `sites`."""
    variables = dict(recipe.env)
    prefixes = [site.parents[PREFIX] for site in sites if len(site.parents) > PREFIX]
    found = [path for below in (*prefixes, prefix) for name in recipe.preload for path in sorted(below.glob(name))]
    libraries = [str(path) for path in dict.fromkeys(found)]
    if any(set(" :;") & set(path) for path in libraries):  # LD_PRELOAD cannot hold those, LD_LIBRARY_PATH a blank
        folders = dict.fromkeys(str(path.parent) for path in found)
        variables["LD_LIBRARY_PATH"] = ":".join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
        libraries = list(dict.fromkeys(path.name for path in found))
    if libraries:
        variables["LD_PRELOAD"] = ":".join([*libraries, *os.environ.get("LD_PRELOAD", "").split()])
    return variables
