"""The played NVML library, for every test that needs devices, and a home with ceilings of the tests' own."""

from __future__ import annotations

import gc
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from innerloop.harness.cli import slowly
from innerloop.harness.machine import cache_folder
from tests.groups import group_of, place_of
from tests.nvml.library import build, load, variables
from tests.nvml.scenario import Scenario
from tests.shared import ladder, whole_runs

__all__ = ["ladder", "whole_runs"]

Play = Callable[[Scenario], Any]

slowly.FIRST_S = math.inf  # on a busy machine anything may take over two seconds; what is printed is to be the same

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:  # inherited: from nohup, or a script's background job
        signal.signal(number, usual)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage collection looks at the tests that this makes, then or later: nearly all of them stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What belongs to a group comes first, since that takes longest, and what is not real last."""
    items.sort(key=lambda item: (item.get_closest_marker("real") is None, place_of(item.nodeid)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadgroup` one test process runs all that reads the same runs: a group, or else a file."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Grouped(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Grouped(config, log)


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the played library lies. Building it takes a C compiler, which the tests require."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def measured_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of real runs that have ceilings, which are measured once for all tests, in one thread as the runs are.

    Environments and checkpoints are the user's; the user's own ceilings are left alone, and so is the folder for
    temporary files, where torch would keep 156 MB for each path of an environment.
    """
    home = tmp_path_factory.mktemp("home")
    for name in ("environments", "checkpoints"):
        (cache_folder() / name).mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to(cache_folder() / name)
    with tempfile.TemporaryDirectory() as temporary:  # short enough for sockets
        yield {"INNERLOOP_HOME": str(home), "TMPDIR": temporary}


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
