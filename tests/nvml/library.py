"""Builds the played library, and puts it in place of the real one: in a subprocess, or in this process."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.nvml.scenario import Scenario

HERE = Path(__file__).parent
NAME = "libnvidia-ml.so.1"  # pynvml asks the loader for this name


def build(folder: Path) -> Path:
    """Compiles the library into `folder`, and returns `folder`.

    It carries no soname: loaded by its path it does not pass for the real library, which others in this process may ask
    the loader for by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden"]
    sources = sorted(map(str, HERE.glob("*.c")))
    command = [*compiler(), *flags, "-o", str(folder / NAME), *sources]
    subprocess.run([*command, "-lm", "-lpthread"], check=True)
    return folder


def compiler() -> list[str]:
    """The C compiler's command: CC, the system's, or on a machine without one that of the PyPI package `ziglang`."""
    if named := os.environ.get("CC"):
        return shlex.split(named)
    if shutil.which("cc"):
        return ["cc"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeError("the played NVML needs a C compiler: install one, or `pip install ziglang`")


def variables(library: Path, scenario: Scenario, file: Path) -> dict[str, str]:
    """Writes the scenario to `file`; the environment of a process that finds the library in the folder `library`.

    All of the devices are visible to it, whatever the variables of this process say.
    """
    paths = [str(library), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    visible = ",".join(str(index) for index in range(len(scenario.devices)))
    return {
        "LD_LIBRARY_PATH": ":".join(paths),
        "NVML_PLAYED": str(scenario.write(file)),
        "CUDA_VISIBLE_DEVICES": visible,
    }


def load(library: Path) -> ModuleType:
    """A pynvml of its own, bound to the library in that folder; the one that is imported by name stays as it is.

    What NVML_PLAYED names when nvmlInit is called is played.
    """
    spec = importlib.util.find_spec("pynvml")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get("pynvml")
    sys.modules["pynvml"] = module  # it looks itself up there while it is made
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules["pynvml"]
        else:
            sys.modules["pynvml"] = before
    module.nvmlLib = ctypes.CDLL(str(library / NAME))  # type: ignore[attr-defined]
    return module
