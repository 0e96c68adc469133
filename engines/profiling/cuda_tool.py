"""For nsys and ncu, which run around this process: NVTX ranges, and the capture range that they wait for."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import Any

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.profiling.capture import Capture, Ranges

RUNTIMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")


class CudaTool(Capture):
    """Opens and closes the tool's capture by cudaProfilerStart and cudaProfilerStop."""

    def __init__(self) -> None:
        self._push, self._pop, self._mark = nvtx()
        self._start, self._stop, self._synchronize = cuda_runtime()

    def ranges(self) -> Ranges | None:
        return self._push, self._pop

    def open(self) -> None:
        checked("cudaProfilerStart", self._start())

    def close(self) -> None:
        self._synchronize()  # kernels that still run belong to the window's last steps
        checked("cudaProfilerStop", self._stop())

    def mark(self, text: str) -> None:
        self._mark(text)


def checked(function: str, code: Any) -> None:
    """Raises: RuntimeError: the runtime's answer is an error (a number, or torch's enumeration of them)."""
    if int(getattr(code, "value", code)) != 0:
        raise RuntimeError(f"{function} returned error {getattr(code, 'value', code)}")


def nvtx() -> tuple[Any, Any, Any]:
    """(push(name), pop(), mark(text)): by the `nvtx` package where the engine's interpreter has it, else by torch's.

    Raises:
        UnsupportedSetting: it has neither.
    """
    if importlib.util.find_spec("nvtx") is not None:
        import nvtx as package

        return package.push_range, package.pop_range, package.mark
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.version.cuda is not None:
            return torch.cuda.nvtx.range_push, torch.cuda.nvtx.range_pop, torch.cuda.nvtx.mark
    raise UnsupportedSetting("NVTX ranges need the package nvtx, or torch with CUDA, in the engine's environment")


def cuda_runtime() -> tuple[Any, Any, Any]:
    """cudaProfilerStart, cudaProfilerStop and a call that waits for the device, of the runtime that this process uses:
    torch's where there is one, else the one that the loader finds.

    Raises:
        UnsupportedSetting: there is none.
    """
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.version.cuda is not None:
            runtime = torch.cuda.cudart()
            return runtime.cudaProfilerStart, runtime.cudaProfilerStop, torch.cuda.synchronize
    for name in RUNTIMES:
        try:
            runtime = ctypes.CDLL(name)
        except OSError:
            continue
        return runtime.cudaProfilerStart, runtime.cudaProfilerStop, runtime.cudaDeviceSynchronize
    raise UnsupportedSetting(f"no CUDA runtime was found in the engine's interpreter ({', '.join(RUNTIMES)})")
