"""Engines that are plugged in: named by the file of their adapter, or installed with an entry point."""

from __future__ import annotations

import importlib.util
import os
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from innerloop.engines.adapters import BadPlugin, load_adapter, load_file
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles.engine_profile import EngineProfile
from innerloop.harness.profiles.validation import validate

GROUP = "innerloop.engines"
PACKAGE = "__init__.py"


def is_path(name: str) -> bool:
    """Whether `--engine` names a plug-in's file, or its folder, and not an engine. A bare name is an engine's, whatever
    lies in the current folder: a checkout of vLLM is called vllm too, and must not be run for it."""
    return name.endswith(".py") or "/" in name


def profile_of(name: str) -> EngineProfile:
    """The profile of the plug-in in a file, or in a folder's `__init__.py`; its code is run.

    Raises:
        Refused: there is no such file, or it does not say what an engine's plug-in must.
    """
    path = Path(os.path.expanduser(name)).absolute()
    file = path / PACKAGE if path.is_dir() else path
    if not file.is_file():
        there = os.path.lexists(file)
        raise Refused(f"--engine: {name} is not a regular file" if there else f"--engine: there is no file {name}")
    try:
        declared: Any = getattr(load_file(file), "PROFILE", None)
        adapter = load_adapter("", str(file))
    except BadPlugin as error:
        raise Refused(f"--engine: {error}") from None
    if not isinstance(declared, dict):
        raise Refused(f"--engine: {file} defines no PROFILE, the dict that describes the engine")
    profile = validate(EngineProfile, {"adapter": True, **declared, "plugin": str(file)}, f"PROFILE of {file}")
    if (adapter.name, list(adapter.layers)) != (profile.name, profile.layers):
        raise Refused(f"--engine: {file}: the adapter's name and layers do not match PROFILE")
    return profile


def installed() -> dict[str, EntryPoint]:
    """The entry points of installed plug-ins, by the name of their engine."""
    return {point.name: point for point in entry_points(group=GROUP)}


def installed_profile(point: EntryPoint) -> EngineProfile:
    """The profile of an installed plug-in.

    Raises:
        Refused: its module cannot be found, or is no plug-in of that name.
    """
    try:
        spec = importlib.util.find_spec(point.module)
    except (ImportError, ValueError) as error:
        raise Refused(f"engine {point.name}: {point.module} cannot be found: {error}") from None
    if spec is None or spec.origin is None:
        raise Refused(f"engine {point.name}: there is no module {point.module}")
    profile = profile_of(spec.origin)
    if profile.name != point.name:
        raise Refused(f"engine {point.name}: {point.module} declares the name {profile.name!r}")
    return profile
