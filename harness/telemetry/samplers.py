"""What a run is sampled by: the host always, devices and the CPU's energy counters where there are any."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.telemetry.device import DEFAULT_HZ, DeviceSampler
from innerloop.harness.telemetry.host import HostSampler
from innerloop.harness.telemetry.powercap import CpuEnergySampler, zones
from innerloop.harness.telemetry.sampler import Sampler

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.machine.gpus import Gpu

IDLE_S = 2.0  # before the worker starts, a device's idle power is measured for so long
READY_S = 10.0  # to open a device: a driver without persistence mode wakes it first
CHOICES = ("used", "all", "off")


class Samplers:
    """The samplers of one run, in the order in which they start. `note` says why no device is sampled, if so."""

    def __init__(self, gpus: Sequence[Gpu] = (), note: str | None = None, hz: float = DEFAULT_HZ) -> None:
        self.host = HostSampler()
        self.devices = [device_sampler(gpu, hz) for gpu in gpus]
        self.cpu_energy = CpuEnergySampler() if zones()["package"] else None
        self.note = note

    def measure_idle(self) -> None:
        """Starts what needs no worker, and measures the devices' idle power. Takes no time where there is no device."""
        if self.cpu_energy is not None:
            self.cpu_energy.start(-1)
        for device in self.devices:
            device.start(-1)
        deadline = time.monotonic() + READY_S
        for device in self.devices:
            device.ready.wait(max(deadline - time.monotonic(), 0))
        if self.devices:
            time.sleep(IDLE_S)
        for device in self.devices:
            device.facts["idle_until_ns"] = time.monotonic_ns()

    def follow(self, roots: Sequence[int], folder: Path) -> None:
        """Names the engine's processes, by the roots of their trees, the worker's first, and the run's folder."""
        for one in self.all:
            one.keep_in(folder)
        self.host.also = tuple(roots[1:])
        self.host.start(roots[0])
        for device in self.devices:
            device.follow(*roots)

    @property
    def all(self) -> list[Sampler]:
        return [self.host, *([self.cpu_energy] if self.cpu_energy is not None else []), *self.devices]


def device_sampler(gpu: Gpu, hz: float) -> DeviceSampler:
    from innerloop.harness.telemetry.nvml import NvmlDevice

    source = f"gpu{gpu.index}" + (f"-{gpu.uuid}" if gpu.uuid.startswith("MIG-") else "")
    identity: dict[str, str | int | None] = {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "driver": gpu.driver,
    }
    return DeviceSampler(source, identity, partial(NvmlDevice, gpu.uuid), hz)


def for_run(device: str, used: int, machine: Machine, choice: str, hz: float) -> Samplers:
    """The samplers of a run on `device` ("cpu" or "cuda"); `choice` is one of CHOICES.

    An engine on GPUs uses the first `used` visible ones, one on the CPU none.
    """
    if choice == "off":
        return Samplers(note="no device telemetry: it was turned off")
    if not machine.gpus:
        return Samplers(note=f"no device telemetry: {why_none()}")
    if choice == "all":
        return Samplers(machine.gpus, hz=hz)
    return Samplers(machine.gpus[:used] if device == "cuda" else (), hz=hz)


def why_none() -> str:
    """Why no device can be sampled here, in words."""
    from innerloop.harness.telemetry.nvml import NoDriver, connect

    try:
        nvml = connect()
    except NoDriver as reason:
        return str(reason)
    count = 0
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index))
            count += 1
    except nvml.NVMLError as error:
        return f"the NVIDIA driver cannot read GPU {count}: {error}"
    finally:
        nvml.nvmlShutdown()
    return "CUDA_VISIBLE_DEVICES hides all devices" if count else "the NVIDIA driver found no devices"
