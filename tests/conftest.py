"""The played NVML library, for every test that needs devices."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.nvml.library import build, load, variables
from tests.nvml.scenario import Scenario

Play = Callable[[Scenario], Any]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the played library lies. Building it takes a C compiler, which the tests require."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def play(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """play(scenario): in this process, `import pynvml` now gives a pynvml of that machine, not yet initialised."""
    loaded: list[ModuleType] = []

    def stop() -> None:
        for module in loaded:
            while module._nvmlLib_refcount:
                module.nvmlShutdown()

    def start(scenario: Scenario) -> Any:
        stop()
        for name, value in variables(nvml_library, scenario, tmp_path / "scenario.txt").items():
            monkeypatch.setenv(name, value)
        loaded.append(load(nvml_library))
        monkeypatch.setitem(sys.modules, "pynvml", loaded[-1])
        return loaded[-1]

    yield start
    stop()
