"""Samples of all that a person may watch, one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timezone

from innerloop.harness.analysis.device_facts import DeviceFacts
from innerloop.harness.machine.gpus import visible_gpus
from innerloop.harness.telemetry.device import Device, DeviceLost
from innerloop.harness.telemetry.nvml import NoDriver, NvmlDevice
from innerloop.harness.telemetry.samplers import why_none
from innerloop.harness.telemetry.watched import DeviceNow, HostNow, WatchedHost, device_now

FIRST_S = 0.2  # before the first sample: rates need two readings


@dataclass(frozen=True, slots=True)
class Sample:
    """All that a person watches, at one moment. `devices` is None where there is none to see; `note` says why."""

    time: str  # UTC, ISO 8601
    host: HostNow
    devices: tuple[DeviceNow, ...] | None
    note: str | None


def watch(hz: float, once: bool, stack: ExitStack) -> Iterator[Sample]:
    """Samples of all visible devices and the host, at a fixed rate; what was missed is left out."""
    gpus = visible_gpus()
    notes = [] if gpus else [f"no devices: {why_none()}"]
    host = WatchedHost()
    stack.callback(host.close)
    devices: list[tuple[DeviceFacts, Device]] = []
    for gpu in gpus:
        try:
            device = stack.enter_context(closing(NvmlDevice(gpu.uuid)))
            devices.append((DeviceFacts.of(device.facts()), device))
        except (NoDriver, DeviceLost) as lost:
            notes.append(f"GPU {gpu.index} cannot be read: {lost}")
    note = "; ".join(notes) or None
    sample(host, devices, note)
    due = time.monotonic() + FIRST_S
    while True:
        time.sleep(max(due - time.monotonic(), 0))
        yield sample(host, devices, note)
        if once:
            return
        due = max(due + 1 / hz, time.monotonic())


def sample(host: WatchedHost, devices: Sequence[tuple[DeviceFacts, Device]], note: str | None) -> Sample:
    """One look at everything."""
    return Sample(
        time=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        host=host.now(),
        devices=tuple(device_now(facts, device) for facts, device in devices) if devices else None,
        note=note,
    )
