"""Samples of all that a person may watch, one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Any

from innerloop.harness.machine.gpus import visible_gpus
from innerloop.harness.telemetry.device import Device, DeviceLost
from innerloop.harness.telemetry.nvml import NvmlDevice
from innerloop.harness.telemetry.samplers import why_none
from innerloop.harness.telemetry.watched import WatchedHost, device_now

FIRST_S = 0.2  # before the first sample: rates need two readings


def watch(hz: float, once: bool, stack: ExitStack) -> Iterator[dict[str, Any]]:
    """Samples of all visible devices and the host, at a fixed rate; what was missed is left out."""
    gpus = visible_gpus()
    note = None if gpus else f"no devices: {why_none()}"
    host = WatchedHost()
    stack.callback(host.close)
    devices: list[tuple[dict[str, Any], Device]] = []
    for gpu in gpus:
        try:
            device = NvmlDevice(gpu.uuid)
        except DeviceLost as lost:
            note = f"GPU {gpu.index} cannot be read: {lost}"
            continue
        stack.callback(device.close)
        devices.append((device.facts(), device))
    sample(host, devices, note)
    due = time.monotonic() + FIRST_S
    while True:
        time.sleep(max(due - time.monotonic(), 0))
        yield sample(host, devices, note)
        if once:
            return
        due = max(due + 1 / hz, time.monotonic())


def sample(host: WatchedHost, devices: list[tuple[dict[str, Any], Device]], note: str | None) -> dict[str, Any]:
    """One look at everything, as plain data."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "host": host.now(),
        "devices": [device_now(facts, device) for facts, device in devices] if devices else None,
        "note": note,
    }
