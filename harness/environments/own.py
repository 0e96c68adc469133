"""The user's own interpreter as an engine's environment: `--engine-python`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments.environment import Environment, worker_variables
from innerloop.harness.environments.interpreters import probe

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import EngineProfile, Recipe

OLDEST_PYTHON = (3, 10)  # what the `engines` package itself needs


@dataclass(frozen=True, slots=True)
class Found:
    """What an interpreter has: `version` is the engine's, None where its recipe names no distribution."""

    python: Path
    python_version: str
    prefix: Path
    version: str | None


def adopt(path: Path, engine: EngineProfile, device: str) -> Environment:
    """The user's own interpreter as the engine's environment. `path`: a Python, or the folder of an environment.

    Raises:
        Refused: it does not run, or has no such engine installed.
    """
    advice = "install it there, or leave out --engine-python: innerloop then creates an environment"
    return environment_of(look(path, engine, device, "--engine-python", advice), engine, device)


def environment_of(found: Found, engine: EngineProfile, device: str, sites: tuple[Path, ...] = ()) -> Environment:
    """The environment of an interpreter that innerloop did not make; its packages may also lie in `sites`."""
    return Environment(
        engine=engine.name,
        device=device,
        python=found.python,
        folder=None,
        lock_hash=None,
        created=None,
        variables=worker_variables(recipe_of(engine, device), found.prefix, sites),
        version=found.version,
        python_version=found.python_version,
        sites=sites,
    )


def recipe_of(engine: EngineProfile, device: str) -> Recipe:
    """What the engine needs on this kind of device."""
    recipe = engine.environments.get(device)
    if recipe is None:
        raise Refused(f"{engine.name} runs only on {' and '.join(engine.environments)}, not on {device}")
    return recipe


def located(path: Path) -> Path:
    """The path as given, `~` included; a bare name such as python3.12 is looked up as a shell does."""
    found = shutil.which(path) if path.name == str(path) and not path.exists() else None
    return Path(found) if found else Path(os.path.expanduser(path)).absolute()


def interpreter(path: Path, option: str) -> Path:
    """The Python at `path`, which may be an environment's folder. Raises: Refused: there is none."""
    python = located(path)
    if os.path.exists(python / "bin" / "python"):  # unlike Path.exists, also False where a folder may not be entered
        python = python / "bin" / "python"
    if not os.path.isfile(python) or not os.access(python, os.X_OK):
        raise Refused(
            f"{option}: {path} {_lack(python)}; give the path to the Python interpreter in the engine's environment"
        )
    return python


def names_of(recipe: Recipe) -> list[str]:
    """The distributions one of which the engine is."""
    return [name for name in (recipe.distribution, *recipe.alternatives) if name]


def _lack(python: Path) -> str:
    """Why a path is no interpreter that this user can run."""
    try:
        os.stat(python)
    except PermissionError:
        return "cannot be reached by this user"
    except OSError:
        return "does not exist"
    return "is not executable"


def look(
    path: Path,
    engine: EngineProfile,
    device: str,
    option: str,
    advice: str,
    variables: Mapping[str, str] | None = None,
) -> Found:
    """What the Python at `path` has for the engine, asked with `variables` as a worker would be started with.

    option: where the path comes from, for the words of a refusal; `advice`: what to do where something is missing.

    Raises:
        Refused: it does not run, is too old, or lacks the engine or numpy.
    """
    recipe = recipe_of(engine, device)
    python = interpreter(path, option)
    probed = probe(python, variables)
    installed, version = probed["packages"], probed["version"]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PYTHON:
        raise Refused(f"{option}: {path} is Python {version}; innerloop's worker needs 3.10 or newer")
    names = names_of(recipe)
    held = next((name for name in names if name in installed), None)
    for name, there in ((" or ".join(names), held is not None or not names), ("numpy", "numpy" in installed)):
        if not there:
            raise Refused(f"{option}: {path} has no distribution {name}; {engine.name} on {device} needs it", advice)
    return Found(python, version, Path(probed["prefix"]), installed[held] if held else None)
