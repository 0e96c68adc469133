"""Samples of the devices and the host, for a person who watches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, number, share, size
from innerloop.harness.report.tables import table
from innerloop.harness.telemetry.watch import Sample


def draw(samples: Iterator[Sample], once: bool) -> None:
    """Redraws a table in place on a terminal, prints one after the other elsewhere, and a note when it changes."""
    console = PlainConsole()
    if once or not console.is_terminal:
        note = None
        for one in samples:
            console.print(picture(replace(one, note=None) if one.note == note else one))
            note = one.note
        return
    with Live(console=console, auto_refresh=False) as live:
        for one in samples:
            live.update(picture(one), refresh=True)


def picture(one: Sample) -> RenderableType:
    """A sample as a person reads it."""

    def unit(value: float | None, word: str) -> str:
        return NONE if value is None else f"{number(round(value))} {word}"

    host = one.host
    lines = [f"CPU {share(host.busy_share)}", f"{size(host.available_bytes)} memory available"]
    if host.cpu_power_w is not None:
        lines.append(f"CPU power {unit(host.cpu_power_w, 'W')}")
    parts: list[RenderableType] = [Text(f"{one.time[11:19]}  host: " + ", ".join(lines))]
    if one.devices is None:
        return Group(*parts, *([Text(one.note, style="dim")] if one.note else []))
    grid = table("GPU", "power", "busy", "SM", "tensor", "DRAM", "memory", "clock", "temp")
    below: list[RenderableType] = []
    for device in one.devices:
        watts = device.power_w if device.power_w is not None else device.power_average_w
        shares = (device.utilization, device.sm_activity, device.tensor_activity, device.dram_bandwidth)
        grid.add_row(
            str(device.index),
            unit(watts, "W"),
            *(NONE if value is None else f"{value:.0%}" for value in shares),
            f"{size(device.memory_used_bytes)} / {size(device.memory_total_bytes)}",
            unit(device.sm_clock_mhz, "MHz"),
            unit(device.temperature_c, "°C"),
        )
        users = [f"{user.name or user.pid} {size(user.memory_bytes)}" for user in device.processes or ()]
        words = [
            device.name or "",
            *([f"slice {device.mig.gpu_instance}.{device.mig.compute_instance}"] if device.mig else []),
            *([f"clocks limited by {', '.join(device.event_reasons)}"] if device.event_reasons else []),
            *([f"used by {', '.join(users)}"] if users else []),
            *([f"lost: {device.lost}"] if device.lost else []),
        ]
        below.append(Text(f"{device.index}: {'; '.join(words)}", style="dim"))
    if one.note is not None:
        below.append(Text(one.note, style="dim"))
    return Group(*parts, grid, *below)
