"""An adapter that wants folders prepared, by commands of a few lines of Python, in this interpreter."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop.engines.contract import Adapter, Load, Preparation, Probe, Session
from innerloop.harness.environments import Environment
from innerloop.harness.machine import Machine, this_machine
from tests.engines.support.loads import make_load

# Writes down that it ran, and puts its words and the config.json of its first argument into the output.
WRITE = """
import pathlib, sys
source, output, room, words = sys.argv[1:]
with open(room + "/ran", "a") as file:
    file.write(words + "\\n")
print("working on", words)
(pathlib.Path(output) / "made").write_text(words + pathlib.Path(source, "config.json").read_text())
"""
COPY = "import shutil, sys; print('copying'); shutil.copy(sys.argv[1] + '/made', sys.argv[2] + '/copied')"


class ToyAdapter(Adapter):
    name, title, versions, variables = "toy", "Toy", ("1", "1"), ("TOY_",)

    def __init__(self, *wanted: Preparation) -> None:
        self._wanted = wanted

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return {}

    def preparation(self, load: Load) -> tuple[Preparation, ...]:
        return self._wanted

    def open(self, load: Load) -> Session:
        raise NotImplementedError


def writing(room: Path, words: str = "one", name: str = "model", **inputs: Any) -> Preparation:
    return Preparation(name, ("-c", WRITE, "{checkpoint}", "{output}", str(room), words), inputs)


def copying(of: str = "model", name: str = "library") -> Preparation:
    return Preparation(name, ("-c", COPY, f"{{{of}}}", "{output}"))


def python(program: str, name: str = "model") -> Preparation:
    return Preparation(name, ("-c", program, "{output}"))


def own_environment(variables: Mapping[str, str] | None = None, version: str = "1.0") -> Environment:
    """This interpreter, as an engine's."""
    kept = dict(variables or {})
    return Environment("toy", "cpu", Path(sys.executable), None, None, None, kept, version, platform.python_version())


def machine(**changes: Any) -> Machine:
    return replace(this_machine(), **{"gpus": (), "cpu_flags": ("avx2",), **changes})


def checkpoint_in(folder: Path) -> Path:
    """A checkpoint's folder of two small files."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(64))
    return folder


def load_of(checkpoint: Path, device: str = "cpu") -> Load:
    return make_load(checkpoint=str(checkpoint), device=device)
