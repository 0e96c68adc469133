"""NVTX and the capture range, with doubles of the packages: there is no CUDA here."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.profiling import cuda_tool
from innerloop.engines.profiling.cuda_tool import CudaTool
from innerloop.engines.profiling.torch_profiler import TorchProfiler


class Calls(list):
    def named(self, name, result=None):
        def call(*args):
            self.append((name, *args))
            return result

        return call


def torch_double(calls: Calls, cuda: str | None = "13.0", start_code: int = 0) -> ModuleType:
    torch = ModuleType("torch")
    runtime = SimpleNamespace(
        cudaProfilerStart=calls.named("start", SimpleNamespace(value=start_code)),
        cudaProfilerStop=calls.named("stop", SimpleNamespace(value=0)),
    )
    torch.version = SimpleNamespace(cuda=cuda)  # type: ignore[attr-defined]
    torch.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        nvtx=SimpleNamespace(range_push=calls.named("push"), range_pop=calls.named("pop"), mark=calls.named("mark")),
        cudart=lambda: runtime,
        synchronize=calls.named("synchronize"),
    )
    return torch


@pytest.fixture
def present(monkeypatch):
    """present(torch=module, nvtx=module): only those can be imported."""

    def make(**modules: ModuleType) -> None:
        for name in ("torch", "nvtx"):
            monkeypatch.setitem(sys.modules, name, modules.get(name))
        monkeypatch.setattr(cuda_tool.importlib.util, "find_spec", lambda name: object() if name in modules else None)

    return make


def test_ranges_and_capture_go_through_torch_where_there_is_no_nvtx(present):
    calls = Calls()
    present(torch=torch_double(calls))
    tool = CudaTool()
    ranges = tool.ranges()
    assert ranges is not None
    push, pop = ranges
    tool.open()
    push("step 7")
    pop()
    tool.mark("step 7: running 3")
    tool.close()
    assert calls == [
        ("start",), ("push", "step 7"), ("pop",), ("mark", "step 7: running 3"), ("synchronize",), ("stop",),
    ]  # fmt: skip


def test_the_nvtx_package_comes_first(present):
    calls, package = Calls(), ModuleType("nvtx")
    package.push_range, package.pop_range, package.mark = (  # type: ignore[attr-defined]
        calls.named(name) for name in ("push", "pop", "mark")
    )
    present(torch=torch_double(Calls()), nvtx=package)
    ranges = CudaTool().ranges()
    assert ranges is not None
    ranges[0]("schedule")
    assert calls == [("push", "schedule")]


def test_an_error_of_the_runtime_is_not_ignored(present):
    present(torch=torch_double(Calls(), start_code=999))
    with pytest.raises(RuntimeError, match=r"cudaProfilerStart .*999"):
        CudaTool().open()


def test_without_nvtx_or_cuda_the_pass_is_refused_in_words(present):
    present(torch=torch_double(Calls(), cuda=None))
    with pytest.raises(UnsupportedSetting, match="NVTX"):
        CudaTool()


def test_without_torch_there_is_no_kernel_profile(present):
    present()
    with pytest.raises(UnsupportedSetting, match="--profiler nsys"):
        TorchProfiler("cuda")
