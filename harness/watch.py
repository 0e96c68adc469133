"""`python -m harness.watch`: what the devices and the host do, live; with a profiler beside it, or any other work."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.errors import EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from innerloop.harness.telemetry.device import Device
    from innerloop.harness.telemetry.watched import WatchedHost

FIRST_S = 0.2  # before the first sample: rates need two readings
EXAMPLES = """\
examples:
  python -m harness.watch                    a table that is redrawn every second, until Ctrl-C
  python -m harness.watch --rate 5           five times a second
  python -m harness.watch --once --json      one sample as one JSON document
  python -m harness.watch --json > log       a JSON document a line, for later
  CUDA_VISIBLE_DEVICES=1 python -m harness.watch

It only reads, and takes no device memory. What the figures mean: docs/metrics.md, "Device telemetry".
"""


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="python -m harness.watch",
        description="Show the visible GPUs and the host, live.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("--rate", type=rate, default=1.0, metavar="HZ", help="samples a second, at most 20; default: 1")
    out.add_argument("--once", action="store_true", help="one sample, and stop")
    out.add_argument("--json", action="store_true", help="JSON on stdout, a document a line")
    return out


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 20:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 20 a second, not {text}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        samples = watch(arguments.rate, arguments.once, stack)
        if arguments.json:
            for sample in samples:
                print(json.dumps(sample), flush=True)
        else:
            draw(samples, arguments.once)
    return EXIT_OK


def watch(hz: float, once: bool, stack: ExitStack) -> Iterator[dict[str, Any]]:
    """Samples of all visible devices and the host, at a fixed rate; what was missed is left out."""
    from innerloop.harness.machine.gpus import visible_gpus
    from innerloop.harness.telemetry.device import DeviceLost
    from innerloop.harness.telemetry.nvml import NvmlDevice
    from innerloop.harness.telemetry.samplers import why_none
    from innerloop.harness.telemetry.watched import WatchedHost

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
    from innerloop.harness.telemetry.watched import device_now

    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "host": host.now(),
        "devices": [device_now(facts, device) for facts, device in devices] if devices else None,
        "note": note,
    }


def draw(samples: Iterator[dict[str, Any]], once: bool) -> None:
    """Redraws a table in place on a terminal, prints one after the other elsewhere."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    if once or not console.is_terminal:
        for one in samples:
            console.print(table(one))
        return
    with Live(console=console, auto_refresh=False) as live:
        for one in samples:
            live.update(table(one), refresh=True)


def table(one: dict[str, Any]) -> RenderableType:
    """A sample as a person reads it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from innerloop.harness.cli.words import NONE, number, share, size

    def unit(value: float | None, word: str) -> str:
        return NONE if value is None else f"{number(round(value))} {word}"

    host = one["host"]
    lines = [f"CPU {share(host['busy_share'])}", f"{size(host['available_bytes'])} memory available"]
    if host["cpu_power_w"] is not None:
        lines.append(f"CPU power {unit(host['cpu_power_w'], 'W')}")
    parts: list[RenderableType] = [Text(f"{one['time'][11:19]}  host: " + ", ".join(lines))]
    if one["devices"] is None:
        return Group(*parts, Text(one["note"] or "", style="dim"))
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("GPU", "power", "busy", "SM", "tensor", "DRAM", "memory", "clock", "heat"):
        grid.add_column(column, justify="left" if column == "GPU" else "right", no_wrap=True)
    below: list[RenderableType] = []
    for device in one["devices"]:
        watts = device["power_w"] if device["power_w"] is not None else device["power_average_w"]
        shares = (device[name] for name in ("utilization", "sm_activity", "tensor_activity", "dram_bandwidth"))
        grid.add_row(
            str(device["index"]),
            unit(watts, "W"),
            *(NONE if value is None else f"{value:.0%}" for value in shares),
            f"{size(device['memory_used_bytes'])} / {size(device['memory_total_bytes'])}",
            unit(device["sm_clock_mhz"], "MHz"),
            unit(device["temperature_c"], "°C"),
        )
        users = [f"{user['name'] or user['pid']} {size(user['memory_bytes'])}" for user in device["processes"] or ()]
        words = [
            device["name"] or "",
            *([f"slice {device['mig']['gpu_instance']}.{device['mig']['compute_instance']}"] if device["mig"] else []),
            *([f"clocks held by {', '.join(device['event_reasons'])}"] if device["event_reasons"] else []),
            *([f"used by {', '.join(users)}"] if users else []),
            *([f"lost: {device['lost']}"] if device["lost"] else []),
        ]
        below.append(Text(f"{device['index']}: {'; '.join(words)}", style="dim"))
    return Group(*parts, grid, *below)


if __name__ == "__main__":
    sys.exit(main())
