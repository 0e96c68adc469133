"""The engines that innerloop knows: what each needs, and why one cannot run on a machine."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.machine import Machine
from innerloop.harness.machine.uv import find_uv
from innerloop.harness.profiles import plugins
from innerloop.harness.profiles.engine_profile import EngineProfile, Recipe
from innerloop.harness.profiles.validation import read_mapping, validate

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "engines"
LOCKS = FOLDER / "locks"
VERSION = re.compile(r"\d+(\.\d+)*([a-z]+\d+)?(\+[A-Za-z0-9.]+)?")


def engine_names() -> list[str]:
    """Every engine that has a profile, the preferred ones first."""
    return [engine.name for engine in all_engines()]


@cache
def load_engine(name: str) -> EngineProfile:
    """The profile of an engine: one of innerloop's own, of an installed plug-in, or of a plug-in's file.

    Raises:
        Refused: there is none of that name; says which is nearest.
    """
    base, pinned, version = name.partition("==")
    if pinned:
        return of_version(load_engine(base), version)
    if plugins.is_path(name):
        return plugins.profile_of(name)
    own, installed = {path.stem for path in FOLDER.glob("*.yaml")}, plugins.installed()
    if name not in own | installed.keys() and name.lower() in own:
        return load_engine(name.lower())
    if name not in own and name in installed:
        return plugins.installed_profile(installed[name])
    if name not in own:
        folder = f"; for the plug-in in the folder {name}, use ./{name}" if name and Path(name).is_dir() else ""
        raise Refused(f"there is no engine {name!r}{folder or nearest(name, sorted({*own, *installed}))}")
    source = f"profiles/engines/{name}.yaml"
    engine = validate(EngineProfile, read_mapping(FOLDER / f"{name}.yaml", source), source)
    if engine.name != name:
        raise Refused(f"{source}: name is {engine.name!r}; it must match the file name ({name!r})")
    return engine


def of_version(engine: EngineProfile, version: str) -> EngineProfile:
    """The profile of one version of an engine.

    Raises:
        Refused: it is no version.
    """
    if not VERSION.fullmatch(version):
        raise Refused(f"--engine: {version!r} is not a version; use a version such as {engine.name}==0.30.0")
    return engine.model_copy(update={"pinned": version})


def all_engines() -> list[EngineProfile]:
    """Every engine, by rank; an installed plug-in that cannot be read is left out (see `broken_plugins`)."""
    names = {*(path.stem for path in FOLDER.glob("*.yaml")), *plugins.installed()}
    engines = [load_engine(name) for name in sorted(names - broken_plugins().keys())]
    return sorted(engines, key=lambda engine: (engine.rank, engine.name))


@cache
def broken_plugins() -> dict[str, str]:
    """Installed plug-ins that cannot be read, and why."""
    broken = {}
    for name in plugins.installed():
        try:
            load_engine(name)
        except Refused as refusal:
            broken[name] = str(refusal)
    return broken


def runnable(machine: Machine) -> list[EngineProfile]:
    """The engines that innerloop can start here, by rank; last those of which something else stands in for a part."""
    found = [engine for engine in all_engines() if not engine.attached and why_not(engine, machine) is None]
    return sorted(found, key=lambda engine: all(substituted(engine, kind) for kind in devices(engine, machine)))


def devices(engine: EngineProfile, machine: Machine) -> list[str]:
    """The kinds of device that the engine runs on here, the preferred one first."""
    return [kind for kind in machine.device_kinds() if why_not(engine, machine, kind) is None]


def why_not(engine: EngineProfile, machine: Machine, device: str | None = None, own_python: bool = False) -> str | None:
    """Why the engine cannot run on this machine; None if it can.

    device: on this kind only, else on any. own_python: the user brings the engine's interpreter, so that what our lock
    needs (platform, glibc, Python) does not matter.
    """
    if device is not None:
        return _obstacle(engine, machine, device, own_python)
    reasons: dict[str, str] = {}
    for kind in engine.environments:
        reason = _obstacle(engine, machine, kind, own_python)
        if reason is None:
            return None
        reasons[kind] = reason
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"on {kind}: {reason}" for kind, reason in reasons.items())


def substituted(engine: EngineProfile, device: str) -> str | None:
    """What makes the engine's speed on this kind of device not its own; None where it is."""
    recipe = engine.environments.get(device)
    return recipe.substituted if recipe else None


def refuse(engine: EngineProfile, machine: Machine) -> Refused:
    """The refusal of an engine that cannot run here: what it needs, what this machine has, what runs instead."""
    here = [f"{other.name} ({', '.join(devices(other, machine))})" for other in runnable(machine)]
    return Refused(
        f"{engine.name} cannot run here: {why_not(engine, machine)}",
        f"{engine.name} needs {engine.needs}",
        f"this machine has {machine.summary()}",
        f"what runs here: {', '.join(here) or 'none of the supported engines'}",
    )


def in_range(version: str, wanted: str) -> bool:
    """Whether a version such as "3.11.7" lies in a range such as ">=3.11,<3.15"."""
    found = numbers(version)
    for part in wanted.split(","):
        bound = numbers(part.lstrip("<>="))
        if not (found >= bound if part.startswith(">=") else found < bound):
            return False
    return True


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "13.0" is (13, 0), "3.15.0a2" is (3, 15, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _obstacle(engine: EngineProfile, machine: Machine, device: str, own_python: bool) -> str | None:
    recipe = engine.environments.get(device)
    if recipe is None:
        return f"it runs only on {' and '.join(engine.environments)}"
    reason = _hardware(recipe, machine) if device == "cuda" else None
    if reason is None and not own_python:
        reason = _software(recipe, machine)
    if reason is None and not engine.adapter:
        reason = "this version of innerloop has no adapter for it"
    return reason


def _hardware(recipe: Recipe, machine: Machine) -> str | None:
    if not machine.gpus:
        return "this machine has no usable NVIDIA GPU"
    best = max((gpu.compute_capability or "" for gpu in machine.gpus), key=numbers)
    if recipe.compute_capability and best and numbers(best) < numbers(recipe.compute_capability):
        needed = f"compute capability {recipe.compute_capability} or higher"
        return f"it needs {needed}; this machine's GPUs have at most {best}"
    driver, cuda = machine.gpus[0].driver, machine.gpus[0].cuda
    if recipe.cuda and cuda and numbers(cuda) < numbers(recipe.cuda):
        return f"it needs a driver for CUDA {recipe.cuda}; this machine's driver ({driver}) supports {cuda}"
    return None


def _software(recipe: Recipe, machine: Machine) -> str | None:
    if recipe.interpreter == "harness":
        return None
    if recipe.lock is None:
        return "innerloop cannot install it; register an environment that has it, or give --engine-python"
    if recipe.platforms and machine.platform not in recipe.platforms:
        return f"it needs {' or '.join(recipe.platforms)}; this machine is {machine.platform}"
    if recipe.glibc and machine.os == "linux":
        found = machine.libc.partition(" ")[2] if machine.libc else ""
        if numbers(found) < numbers(recipe.glibc):
            return f"it needs glibc {recipe.glibc} or newer; this machine has {machine.libc or 'a different C library'}"
    if recipe.python and not in_range(machine.python, recipe.python) and find_uv() is None:
        return f"it needs Python {recipe.python}; this is {machine.python}, and uv is not available to install another"
    return None
