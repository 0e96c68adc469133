"""What a result says of its devices, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.words import NONE, number, size
from innerloop.harness.report.tables import table
from innerloop.harness.schema.telemetry import Device, Energy, Telemetry


def devices(telemetry: Telemetry) -> RenderableType:
    """A row a device, then their memory's use and their energy together."""
    entries = telemetry.devices or ()
    rows = table("device", "power", "max power", "busy", "SM clock", "max temp", "memory")
    for device in entries:
        rows.add_row(*_row(device))
    lines = [Text(line, style="dim") for line in (*_memory(entries), *_energy(telemetry.energy_j))]
    return Group(rows, *lines)


def _row(device: Device) -> Iterator[str]:
    clock, busy = device.clocks_mhz.sm.mean, device.utilization.gpu
    if busy is None:
        busy = (device.gpm or {}).get("sm_activity")
    yield f"GPU {device.index}" + (" slice" if device.mig else "")
    yield _unit(device.power_w.mean, "W")
    yield _unit(device.power_w.max, "W")
    yield NONE if busy is None else f"{busy:.0%}"
    yield NONE if clock is None else f"{number(round(clock))} MHz"
    yield _unit(device.temperature_c.max, "°C")
    yield size(device.memory_bytes.peak)


def _unit(value: float | None, unit: str) -> str:
    return NONE if value is None else f"{number(round(value))} {unit}"


def _memory(entries: Sequence[Device]) -> Iterator[str]:
    held = [device.memory_bytes for device in entries]
    uses = {
        "weights": [memory.weights for memory in held],
        "KV cache": [memory.kv_cache for memory in held],
        "other": [memory.rest for memory in held],
        "before loading": [memory.before_load for memory in held],
    }
    known = {label: [part for part in parts if part is not None] for label, parts in uses.items()}
    sums = {label: sum(parts) for label, parts in known.items() if len(parts) == len(held)}
    if "weights" in sums:
        yield "memory: " + ", ".join(f"{label} {size(total)}" for label, total in sums.items())


def _energy(energy: Energy) -> Iterator[str]:
    used, cpu = energy.devices, energy.cpu
    if used is not None and used.window is not None:
        above = used.per_token_above_idle
        above_idle = "" if above is None else f" ({number(above)} above idle)"
        yield (
            f"energy: {number(used.window)} J, {number(used.per_token)} J per token{above_idle}, "
            f"{number(used.tokens_per_j)} tokens per J"
        )
    if cpu is not None and cpu.window is not None:
        yield f"CPU energy: {number(cpu.window)} J, {number(cpu.per_token)} J per token"
