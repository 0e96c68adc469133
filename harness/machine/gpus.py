"""The NVIDIA GPUs that an engine started from here would see."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from innerloop.harness.machine.state import numa_node


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. `driver` is the driver's version, `cuda` the newest CUDA version that this driver runs. None is what
    NVML does not say: a GPU that shares the machine's memory (GB10, Jetson) has none of its own."""

    index: int  # NVML's, in PCI bus order
    name: str
    uuid: str
    memory_bytes: int | None
    compute_capability: str | None  # "9.0"
    driver: str | None
    cuda: str | None  # "13.0"
    numa_node: int | None = None  # of the host's memory that it is nearest to


def visible_gpus() -> tuple[Gpu, ...]:
    """Every GPU that NVML shows and CUDA_VISIBLE_DEVICES lets through; empty without a driver. Never raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the deprecated package of the same import name warns on import
            import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        found = [gpu for index in range(pynvml.nvmlDeviceGetCount()) if (gpu := _gpu(pynvml, index))]
        chosen = _visible(pynvml, found, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return tuple(_as_used(pynvml, gpu) for gpu in chosen)
    except pynvml.NVMLError:
        return ()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu | None:
    """What NVML says of one device; None if it has fallen off the bus, so that it cannot even be named."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
    except nvml.NVMLError:
        return None

    def said(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except nvml.NVMLError:
            return None

    memory = said(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total)
    capability = said(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    driver = said(nvml.nvmlSystemGetDriverVersion)
    cuda = said(nvml.nvmlSystemGetCudaDriverVersion_v2)
    return Gpu(
        index=index,
        name=name,
        uuid=uuid,
        memory_bytes=int(memory) if memory else None,
        compute_capability=None if capability is None else ".".join(map(str, capability)),
        driver=None if driver is None else _text(driver),
        cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        numa_node=_node(nvml, handle),
    )


def _node(nvml: Any, handle: Any) -> int | None:
    try:
        return numa_node(_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
    except nvml.NVMLError:
        return None


def _visible(nvml: Any, gpus: list[Gpu], allowed: str | None) -> list[Gpu]:
    """What CUDA_VISIBLE_DEVICES names, in its order: indices or beginnings of UUIDs, up to the first unknown one."""
    if allowed is None:
        return gpus
    chosen = []
    for word in (part.strip() for part in allowed.split(",") if part.isascii()):
        if word.startswith("MIG-"):
            match = _slice(nvml, gpus, word)
        else:
            match = [g for g in gpus if (g.index == int(word) if word.isdigit() else word and g.uuid.startswith(word))]
        if not match:
            break
        chosen.append(match[0])
    return chosen


def _as_used(nvml: Any, gpu: Gpu) -> Gpu:
    """A GPU in MIG mode as its first slice, which is what CUDA takes where none is named."""
    if gpu.uuid.startswith("MIG-"):
        return gpu
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        if not nvml.nvmlDeviceGetMigMode(handle)[0]:
            return gpu
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except nvml.NVMLError:  # no MIG
        return gpu
    for place in range(count):
        with contextlib.suppress(nvml.NVMLError):
            uuid = _text(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)))
            return next(iter(_slice(nvml, [gpu], uuid)), gpu)
    return gpu


def _slice(nvml: Any, gpus: list[Gpu], uuid: str) -> list[Gpu]:
    """A MIG slice as a GPU: its own memory and UUID, the rest from the device that it is a part of."""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        whole = _text(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)))
    except nvml.NVMLError:
        return []
    try:
        memory: int | None = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:
        memory = None
    return [replace(gpu, uuid=uuid, memory_bytes=memory) for gpu in gpus if gpu.uuid == whole]


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
