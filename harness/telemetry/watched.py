"""Single looks at devices and the host, for a person who watches: plain data, None where a thing is not known."""

from __future__ import annotations

import time
from typing import Any

from innerloop.harness.analysis.device import reason_names
from innerloop.harness.telemetry.device import MISSING, READ, Device, DeviceLost, Row
from innerloop.harness.telemetry.owners import process_name
from innerloop.harness.telemetry.powercap import Zone, zones

FIXED = ("index", "uuid", "name", "mig", "driver", "memory_total_bytes", "power_limit_w")
NAMES = {  # of the columns that are shown
    "power_w": "power_instant_w",
    "power_average_w": "power_average_w",
    "energy_j": "energy_j",
    "memory_used_bytes": "memory_used_bytes",
    "utilization": "gpu_utilization",
    "memory_utilization": "memory_utilization",
    "sm_clock_mhz": "sm_clock_mhz",
    "memory_clock_mhz": "memory_clock_mhz",
    "temperature_c": "temperature_c",
    "memory_temperature_c": "memory_temperature_c",
    "sm_activity": "sm_activity",
    "tensor_activity": "tensor_activity",
    "dram_bandwidth": "dram_bandwidth",
}


def device_now(facts: dict[str, Any], device: Device) -> dict[str, Any]:
    """What a device does now; activities are those since the look before. `lost` is the driver's word, if it is."""
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
    return {
        **{name: facts.get(name) for name in FIXED},
        **{name: read[column] for name, column in NAMES.items()},
        "event_reasons": [] if bits is None else reason_names(bits),
        "processes": None
        if listed is None
        else [{"pid": one.pid, "name": process_name(one.pid), "memory_bytes": one.bytes} for one in listed],
        "lost": lost,
    }


def inventory() -> dict[str, Any]:
    """What could be sampled here: `devices`, the facts of every visible one, None with a `note` where there is none;
    `cpu_energy`, whether the CPU's energy counters can be read."""
    from innerloop.harness.machine.gpus import visible_gpus
    from innerloop.harness.telemetry.nvml import NoDriver, NvmlDevice
    from innerloop.harness.telemetry.samplers import why_none

    devices, notes = [], []
    for gpu in visible_gpus():
        try:
            device = NvmlDevice(gpu.uuid)
        except (NoDriver, DeviceLost) as error:
            notes.append(f"GPU {gpu.index} cannot be read: {error}")
            continue
        try:
            devices.append(device.facts())
        finally:
            device.close()
    if not devices and not notes:
        notes.append(why_none())
    return {
        "devices": devices or None,
        "note": "; ".join(notes) or None,
        "cpu_energy": bool(zones()["package"]),
    }


class WatchedHost:
    """The machine since the look before."""

    def __init__(self) -> None:
        self._zones = [Zone(folder) for folder in zones()["package"]]
        self._cpu_before: Any = None
        self._energy_before: tuple[float, float] | None = None

    def now(self) -> dict[str, Any]:
        """{busy_share, available_bytes, cpu_power_w}; the share and the power are None at the first look."""
        import psutil

        times = psutil.cpu_times()
        busy = None
        if self._cpu_before is not None:
            spent = [after - before for after, before in zip(times[:8], self._cpu_before[:8], strict=True)]
            idle = times._fields.index("idle")
            waiting = times._fields.index("iowait") if "iowait" in times._fields else idle
            still = sum(spent[place] for place in {idle, waiting})
            busy = 1 - still / sum(spent) if sum(spent) > 0 else None
        self._cpu_before = times
        return {
            "busy_share": busy,
            "available_bytes": int(psutil.virtual_memory().available),
            "cpu_power_w": self._power(),
        }

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
