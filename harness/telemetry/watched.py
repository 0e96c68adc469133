"""Single looks at devices and the host, for a person who watches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from innerloop.harness.analysis.device import reason_names
from innerloop.harness.analysis.device_facts import DeviceFacts
from innerloop.harness.machine import cpu_times, memory
from innerloop.harness.schema.telemetry import Mig
from innerloop.harness.telemetry.device import MISSING, READ, Device, DeviceLost, DeviceTold, Row
from innerloop.harness.telemetry.owners import process_name
from innerloop.harness.telemetry.powercap import Zone, zones


@dataclass(frozen=True, slots=True)
class UserNow:
    """A process on a device. `name` is None where /proc does not know its number, as in a container."""

    pid: int
    name: str | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class DeviceNow:
    """What a device does now; None is not known. `lost` is the driver's word, where it does not answer any more."""

    index: int | None
    uuid: str | None
    name: str | None
    mig: Mig | None
    driver: str | None
    memory_total_bytes: int | None
    power_limit_w: float | None
    power_w: float | None
    power_average_w: float | None
    energy_j: float | None
    memory_used_bytes: int | None
    utilization: float | None
    memory_utilization: float | None
    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: float | None
    memory_temperature_c: float | None
    sm_activity: float | None
    tensor_activity: float | None
    dram_bandwidth: float | None
    event_reasons: tuple[str, ...]
    processes: tuple[UserNow, ...] | None
    lost: str | None


@dataclass(frozen=True, slots=True)
class HostNow:
    """The machine since the look before; the share and the power are None at the first look."""

    busy_share: float | None
    available_bytes: int
    cpu_power_w: float | None


def device_now(facts: DeviceFacts, device: Device) -> DeviceNow:
    """One look at a device; activities are those since the look before."""
    row: Row = list(MISSING)
    listed, lost = None, None
    try:
        device.fast(row)
        device.medium(row)
        device.slow(row)
        listed = device.processes()
    except DeviceLost as error:
        lost = str(error)
    read = {
        name: None if value != value or (isinstance(value, int) and value < 0) else value
        for name, value in zip(READ, row, strict=True)
    }
    bits = read["event_reasons"]
    return DeviceNow(
        index=facts.index,
        uuid=facts.uuid,
        name=facts.name,
        mig=facts.mig,
        driver=facts.driver,
        memory_total_bytes=facts.memory_total_bytes,
        power_limit_w=facts.power_limit_w,
        power_w=read["power_instant_w"],
        power_average_w=read["power_average_w"],
        energy_j=read["energy_j"],
        memory_used_bytes=read["memory_used_bytes"],
        utilization=read["gpu_utilization"],
        memory_utilization=read["memory_utilization"],
        sm_clock_mhz=read["sm_clock_mhz"],
        memory_clock_mhz=read["memory_clock_mhz"],
        temperature_c=read["temperature_c"],
        memory_temperature_c=read["memory_temperature_c"],
        sm_activity=read["sm_activity"],
        tensor_activity=read["tensor_activity"],
        dram_bandwidth=read["dram_bandwidth"],
        event_reasons=() if bits is None else tuple(reason_names(bits)),
        processes=None
        if listed is None
        else tuple(UserNow(one.pid, process_name(one.pid), one.bytes) for one in listed),
        lost=lost,
    )


@dataclass(frozen=True, slots=True)
class Inventory:
    """What could be sampled here: every visible device, None with a `note` where there is none; `cpu_energy`: whether
    the CPU's energy counters can be read."""

    devices: Sequence[DeviceTold] | None
    note: str | None
    cpu_energy: bool


def inventory() -> Inventory:
    """Opens every visible device once."""
    from innerloop.harness.machine.gpus import visible_gpus
    from innerloop.harness.telemetry.nvml import NoDriver, NvmlDevice
    from innerloop.harness.telemetry.samplers import why_none

    devices, notes = [], []
    for gpu in visible_gpus():
        try:
            with closing(NvmlDevice(gpu.uuid)) as device:
                devices.append(device.facts())
        except (NoDriver, DeviceLost) as error:
            notes.append(f"GPU {gpu.index} cannot be read: {error}")
    if not devices and not notes:
        notes.append(why_none())
    return Inventory(devices or None, "; ".join(notes) or None, bool(zones()["package"]))


class WatchedHost:
    """The machine since the look before."""

    def __init__(self) -> None:
        self._zones = [Zone(folder) for folder in zones()["package"]]
        self._cpu_before: Any = None
        self._energy_before: tuple[float, float] | None = None

    def now(self) -> HostNow:
        times = cpu_times()
        busy = None
        if times is not None and self._cpu_before is not None:
            spent = [after - before for after, before in zip(times[:8], self._cpu_before[:8], strict=True)]
            idle = times._fields.index("idle")
            waiting = times._fields.index("iowait") if "iowait" in times._fields else idle
            still = sum(spent[place] for place in {idle, waiting})
            busy = 1 - still / sum(spent) if sum(spent) > 0 else None
        self._cpu_before = times
        return HostNow(
            busy_share=busy,
            available_bytes=memory()[1],
            cpu_power_w=self._power(),
        )

    def _power(self) -> float | None:
        if not self._zones:
            return None
        moment, joules = time.monotonic(), sum(zone.joules() for zone in self._zones)
        before, self._energy_before = self._energy_before, (moment, joules)
        if before is None or moment <= before[0]:
            return None
        return (joules - before[1]) / (moment - before[0])

    def close(self) -> None:
        for zone in self._zones:
            zone.close()
