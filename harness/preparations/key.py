"""The key under which a prepared folder is kept: a digest of everything that decides its content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from innerloop.harness.environments.interpreters import packages
from innerloop.harness.process import launcher

if TYPE_CHECKING:
    from innerloop.engines.contract import Adapter, Load, Preparation
    from innerloop.harness.environments.environment import Environment
    from innerloop.harness.machine import Machine

INSTALLERS = ("pip", "uv", "wheel")  # of an environment's packages those that no command computes with
WHOLE_BYTES = 32 << 20  # a larger file of a checkpoint counts by its size, time and beginning
BEGINNING_BYTES = 1 << 20  # holds the header of most safetensors files: names, shapes and types of the tensors


class CommonIngredients(TypedDict):
    """What all of an adapter's preparations depend on. variables: digests, by name; hardware: by kind of device."""

    adapter: str
    engine: str | None
    python: str
    packages: Mapping[str, str]
    variables: Mapping[str, str]
    hardware: Mapping[str, Sequence[str | None]]
    checkpoint: str


class OwnIngredients(TypedDict):
    """What one preparation depends on by itself."""

    name: str
    command: Sequence[str]
    inputs: Mapping[str, object]


def common_ingredients(adapter: Adapter, load: Load, environment: Environment, machine: Machine) -> CommonIngredients:
    """What all of an adapter's preparations depend on: the engine with every package beside it, which one of them a
    command computes with being unknown; the variables that change what it does; the checkpoint; the hardware.

    Raises:
        Refused: the engine's interpreter does not run.
    """
    found = packages(environment.python, environment.variables)
    variables = launcher.environment(dict(environment.variables))
    return {
        "adapter": adapter.name,
        "engine": environment.version,
        "python": environment.python_version,
        "packages": {name: version for name, version in found.items() if name not in INSTALLERS},
        "variables": {  # may hold secrets
            name: digest(value) for name, value in variables.items() if name.startswith(tuple(adapter.variables))
        },
        "hardware": hardware(load.device, machine),
        "checkpoint": checkpoint_digest(Path(load.checkpoint)),
    }


def own_ingredients(preparation: Preparation) -> OwnIngredients:
    """What one preparation depends on by itself. A file that its command names counts by content: scripts move."""
    command = [content(word) if os.path.isabs(word) and os.path.isfile(word) else word for word in preparation.command]
    return {"name": preparation.name, "command": command, "inputs": dict(preparation.inputs)}


def hardware(device: str, machine: Machine) -> Mapping[str, Sequence[str | None]]:
    """What compiled code may be made for."""
    if device == "cuda":
        return {"cuda": list(dict.fromkeys(gpu.compute_capability for gpu in machine.gpus))}
    return {device: [machine.arch, *machine.cpu_flags]}


def checkpoint_digest(folder: Path) -> str:
    """Of the files in a checkpoint's folder: their content, or of large ones name, size, time and beginning."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return digest([[file.name, *fingerprint(file)] for file in files])


def fingerprint(file: Path) -> list[str | int]:
    stat = file.stat()
    if stat.st_size <= WHOLE_BYTES:
        return [content(file)]
    with file.open("rb") as opened:
        beginning = hashlib.sha256(opened.read(BEGINNING_BYTES)).hexdigest()
    return [stat.st_size, stat.st_mtime_ns, beginning]


def content(file: str | Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def digest(data: object) -> str:
    """SHA-256 of plain data, hex; the order of a mapping's keys does not count."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
