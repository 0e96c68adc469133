"""torch's profiler and the ranges that it is told of, with a double of torch that keeps them."""

from __future__ import annotations

import sys
from threading import Thread
from types import ModuleType, SimpleNamespace

import pytest

from engines.profiling.torch_profiler import TorchProfiler


@pytest.fixture
def heard(monkeypatch) -> list[str]:
    out: list[str] = []

    class Scope:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            out.append(f"+{self.name}")

        def __exit__(self, *_: object) -> None:
            out.append(f"-{self.name}")

    session = SimpleNamespace(start=lambda: None, stop=lambda: None)
    torch = ModuleType("torch")
    torch.profiler = SimpleNamespace(  # type: ignore[attr-defined]
        ProfilerActivity=SimpleNamespace(CPU="cpu", CUDA="cuda"),
        record_function=Scope,
        profile=lambda activities: session,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    return out


def test_ranges_of_another_thread_do_not_close_those_of_this_one(heard):
    profiler = TorchProfiler("cpu")
    ranges = profiler.ranges()
    assert ranges is not None
    push, pop = ranges
    profiler.open()
    push("step 3")
    thread = Thread(target=push, args=("execute",))  # its range stays open: the engine's own thread goes on
    thread.start()
    thread.join()
    pop()
    assert heard == ["+innerloop/step 3", "+innerloop/execute", "-innerloop/step 3"]


def test_what_begins_outside_of_a_window_is_no_range(heard):
    profiler = TorchProfiler("cpu")
    ranges = profiler.ranges()
    assert ranges is not None
    push, pop = ranges
    push("execute")
    profiler.open()
    pop()
    assert heard == []
