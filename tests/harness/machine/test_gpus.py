"""GPUs as NVML tells of them; the library is played by a stand-in, since most machines have none."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.harness.machine.gpus import visible_gpus


class NVMLError(Exception):
    pass


def nvml(*names: str, fallen: int | None = None) -> Any:
    """A stand-in for pynvml with one device a name; `fallen`: the one that no longer answers."""
    module: Any = types.ModuleType("pynvml")
    module.calls = []

    def name(handle: int) -> bytes:
        if handle == fallen:
            raise NVMLError("GPU is lost")
        return names[handle].encode()

    def not_found(why: str = "not found") -> Any:
        raise NVMLError(why)

    def by_uuid(uuid: str) -> Any:
        known = {f"GPU-{handle}abc": handle for handle in range(len(names))}
        return "slice" if uuid == "MIG-7" else known[uuid] if uuid in known else not_found()

    module.NVMLError = NVMLError
    module.nvmlInit = lambda: module.calls.append("init")
    module.nvmlShutdown = lambda: module.calls.append("shutdown")
    module.nvmlDeviceGetCount = lambda: len(names)
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetName = name
    module.nvmlDeviceGetUUID = lambda handle: f"GPU-{handle}abc"
    module.nvmlDeviceGetPciInfo = lambda handle: SimpleNamespace(busId=f"FFFFFFFF:{handle:02x}:00.0")  # not here
    module.nvmlDeviceGetMemoryInfo = lambda handle: types.SimpleNamespace(total=10 if handle == "slice" else 80)
    module.nvmlDeviceGetCudaComputeCapability = lambda handle: (9, 0)
    module.nvmlSystemGetDriverVersion = lambda: "580.65.06"
    module.nvmlSystemGetCudaDriverVersion_v2 = lambda: 13020
    module.nvmlDeviceGetHandleByUUID = by_uuid
    module.nvmlDeviceGetDeviceHandleFromMigDeviceHandle = lambda handle: 1
    module.nvmlDeviceGetMigMode = lambda handle: not_found("not supported")
    return module


@pytest.fixture(autouse=True)
def every_device_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def seen(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[str]:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return [gpu.name for gpu in visible_gpus()]


def test_every_fact_of_a_device_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nvml("H200")
    monkeypatch.setitem(sys.modules, "pynvml", module)
    [gpu] = visible_gpus()
    assert (gpu.index, gpu.name, gpu.uuid, gpu.memory_bytes) == (0, "H200", "GPU-0abc", 80)
    assert (gpu.compute_capability, gpu.driver, gpu.cuda) == ("9.0", "580.65.06", "13.2")
    assert module.calls == ["init", "shutdown"]


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ("1", ["B"]),
        ("2, 0", ["C", "A"]),
        ("GPU-1", ["B"]),
        ("0,9,1", ["A"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_only_visible_devices_count(allowed: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert seen(monkeypatch, nvml("A", "B", "C")) == names


def test_a_slice_has_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7")
    monkeypatch.setitem(sys.modules, "pynvml", nvml("A", "B"))
    [gpu] = visible_gpus()
    assert (gpu.name, gpu.uuid, gpu.memory_bytes) == ("B", "MIG-7", 10)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-8")
    assert visible_gpus() == ()


@pytest.mark.parametrize("allowed", [None, "1", "GPU-1"])
def test_a_gpu_in_mig_mode_is_its_first_slice(allowed: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told, planned and its peaks were kept as the whole GPU, of which CUDA sees one slice."""

    def slice_at(handle: int, place: int) -> str:
        if (handle, place) != (1, 2):
            raise NVMLError("not found")
        return "slice"

    module = nvml("A", "B")
    module.nvmlDeviceGetUUID = lambda handle: "MIG-7" if handle == "slice" else f"GPU-{handle}abc"
    module.nvmlDeviceGetMigMode = lambda handle: (handle == 1, handle == 1)
    module.nvmlDeviceGetMaxMigDeviceCount = lambda handle: 7
    module.nvmlDeviceGetMigDeviceHandleByIndex = slice_at
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    found = [(gpu.name, gpu.uuid, gpu.memory_bytes) for gpu in visible_gpus()]
    assert found == [("A", "GPU-0abc", 80), ("B", "MIG-7", 10)][0 if allowed is None else 1 :]
    module.nvmlDeviceGetMigDeviceHandleByIndex = lambda handle, place: slice_at(0, place)
    assert visible_gpus()[-1].uuid == "GPU-1abc"  # no slice was made yet


def test_a_slice_whose_memory_is_not_said_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(handle: Any) -> Any:
        raise NVMLError("not supported")

    module = nvml("A", "B")
    module.nvmlDeviceGetMemoryInfo = memory
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7")
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert [(gpu.name, gpu.uuid, gpu.memory_bytes) for gpu in visible_gpus()] == [("B", "MIG-7", None)]


def test_a_device_that_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(monkeypatch, nvml("A", "B", fallen=0)) == ["B"]


def test_a_device_whose_handle_cannot_be_had_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nvml("A", "B", "C")

    def by_index(index: int) -> int:
        if index == 1:
            raise NVMLError("GPU is lost")
        return index

    module.nvmlDeviceGetHandleByIndex = by_index
    assert seen(monkeypatch, module) == ["A", "C"]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("nvmlDeviceGetMemoryInfo", "memory_bytes"),
        ("nvmlDeviceGetCudaComputeCapability", "compute_capability"),
        ("nvmlSystemGetDriverVersion", "driver"),
        ("nvmlSystemGetCudaDriverVersion_v2", "cuda"),
    ],
)
def test_a_device_of_which_something_is_not_told_is_a_device(
    call: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that shares the machine's memory answers "Not Supported" when it is asked for its own."""
    module = nvml("NVIDIA GB10")

    def not_supported(*_: object) -> None:
        raise NVMLError("Not Supported")

    setattr(module, call, not_supported)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    [gpu] = visible_gpus()
    told = {"memory_bytes": 80, "compute_capability": "9.0", "driver": "580.65.06", "cuda": "13.2"}
    assert {name: getattr(gpu, name) for name in told} == {**told, field: None}


def test_without_a_driver_or_the_library_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nvml("A")

    def no_driver() -> None:
        raise NVMLError("library not found")

    module.nvmlInit = no_driver
    assert seen(monkeypatch, module) == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert visible_gpus() == ()
