"""torch's profiler and the ranges that it is told of, with a double of torch that keeps them."""

from __future__ import annotations

import sys
from threading import Thread
from types import ModuleType, SimpleNamespace

import pytest

from innerloop.engines.profiling.torch_profiler import KEEP_CUPTI, TorchProfiler


@pytest.fixture
def seen() -> list[SimpleNamespace]:
    """What a session has seen once it is stopped."""
    return []


@pytest.fixture
def heard(monkeypatch, seen) -> list[str]:
    out: list[str] = []

    class Scope:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            out.append(f"+{self.name}")

        def __exit__(self, *_: object) -> None:
            out.append(f"-{self.name}")

    monkeypatch.setenv(*KEEP_CUPTI)  # what the profiler sets is taken back
    session = SimpleNamespace(start=lambda: out.append("start"), stop=lambda: out.append("stop"), events=lambda: seen)
    torch = ModuleType("torch")
    torch.ones = lambda *_, device: SimpleNamespace(add_=lambda _: out.append(f"work on {device}"))  # type: ignore[attr-defined]
    torch.cuda = SimpleNamespace(synchronize=lambda: out.append("wait"))  # type: ignore[attr-defined]
    torch.profiler = SimpleNamespace(  # type: ignore[attr-defined]
        ProfilerActivity=SimpleNamespace(CPU="cpu", CUDA="cuda"),
        record_function=Scope,
        profile=lambda activities: session,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    return out


def test_on_a_gpu_a_second_session_must_see_what_runs(heard, seen):
    profiler = TorchProfiler("cuda")
    seen += [SimpleNamespace(device_type="DeviceType.CPU"), SimpleNamespace(device_type="DeviceType.CUDA")]
    profiler.prepare()
    assert heard == ["start", "work on cuda", "wait", "stop"] * 2
    seen.pop()
    with pytest.raises(RuntimeError, match="records nothing on the device after its first session"):
        profiler.prepare()


def test_on_a_cpu_nothing_is_run_to_try_it(heard):
    TorchProfiler("cpu").prepare()
    assert heard == ["start", "stop"] * 2


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
    assert heard[1:] == ["+innerloop/step 3", "+innerloop/execute", "-innerloop/step 3"]


def test_what_begins_outside_of_a_window_is_no_range(heard):
    profiler = TorchProfiler("cpu")
    ranges = profiler.ranges()
    assert ranges is not None
    push, pop = ranges
    push("execute")
    profiler.open()
    pop()
    assert heard == ["start"]
