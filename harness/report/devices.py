"""What a result says of its devices, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.words import NONE, number, size
from innerloop.harness.report.tables import table


def devices(result: Mapping[str, Any]) -> RenderableType:
    """A row a device, then their memory's use and their energy together."""
    entries = result["telemetry"]["devices"]
    rows = table("device", "power", "most", "busy", "SM clock", "heat", "memory")
    for one in entries:
        rows.add_row(*_row(one))
    lines = [Text(line, style="dim") for line in (*_memory(entries), *_energy(result["telemetry"]))]
    return Group(rows, *lines)


def _row(one: Mapping[str, Any]) -> Iterator[str]:
    power, clock, memory = one["power_w"], one["clocks_mhz"]["sm"]["mean"], one["memory_bytes"]
    busy = one["utilization"]["gpu"]
    if busy is None:
        busy = (one["gpm"] or {}).get("sm_activity")
    yield f"GPU {one['index']}" + (" slice" if one["mig"] else "")
    yield _unit(power["mean"], "W")
    yield _unit(power["max"], "W")
    yield NONE if busy is None else f"{busy:.0%}"
    yield NONE if clock is None else f"{number(round(clock))} MHz"
    yield _unit(one["temperature_c"]["max"], "°C")
    yield size(memory["peak"])


def _unit(value: float | None, unit: str) -> str:
    return NONE if value is None else f"{number(round(value))} {unit}"


def _memory(entries: list[Mapping[str, Any]]) -> Iterator[str]:
    names = {"weights": "weights", "KV cache": "kv_cache", "the rest": "rest", "before the load": "before_load"}
    sums = {}
    for label, key in names.items():
        parts = [one["memory_bytes"][key] for one in entries]
        if None not in parts:
            sums[label] = sum(parts)
    if "weights" in sums:
        yield "memory: " + ", ".join(f"{label} {size(total)}" for label, total in sums.items())


def _energy(telemetry: Mapping[str, Any]) -> Iterator[str]:
    used, cpu = telemetry["energy_j"]["devices"], telemetry["energy_j"]["cpu"]
    if used is not None and used["window"] is not None:
        above = used["per_token_above_idle"]
        above_idle = "" if above is None else f" ({number(above)} above idle)"
        yield (
            f"energy: {number(used['window'])} J, {number(used['per_token'])} J a token{above_idle}, "
            f"{number(used['tokens_per_j'])} tokens a J"
        )
    if cpu is not None and cpu["window"] is not None:
        yield f"energy of the CPU: {number(cpu['window'])} J, {number(cpu['per_token'])} J a token"
