"""One device over a window, from its samples: power, energy, memory, activity, clocks, who else was on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from innerloop.harness.analysis import energy
from innerloop.harness.analysis.columns import NS, known

BUSY = 0.1  # utilization above which a device without event reasons counts as working
REASONS = {  # bits of NVML's nvmlClocksEventReasons
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
IDLE = 0x1
GPM = ("sm_activity", "sm_occupancy", "tensor_activity", "dram_bandwidth", "graphics_activity")


def reason_names(bits: int) -> list[str]:
    """The names of the bits of an event-reasons value; one that is not known is named by its bit."""
    return [REASONS.get(1 << n, f"bit_{n}") for n in range(64) if bits >> n & 1]


def column(rows: np.ndarray, name: str) -> np.ndarray:
    """The values of a column that are there."""
    return rows[name][known(rows[name])]


def power_of(rows: np.ndarray) -> np.ndarray:
    """The power reading to go by: the instant one, or where a part has none, the average; float64 [rows], W."""
    return rows["power_instant_w"] if known(rows["power_instant_w"]).any() else rows["power_average_w"]


def power_w(rows: np.ndarray) -> dict[str, float | None]:
    """Mean, p50, p90, p99 and maximum of the power readings."""
    names = ("mean", "p50", "p90", "p99", "max")
    watts = power_of(rows)
    watts = watts[known(watts)]
    if len(watts) == 0:
        return dict.fromkeys(names)
    quantiles = np.quantile(watts, [0.5, 0.9, 0.99])
    return dict(zip(names, map(float, (watts.mean(), *quantiles, watts.max())), strict=True))


def clocks_mhz(rows: np.ndarray, most: Mapping[str, int | None]) -> dict[str, dict[str, float | None]]:
    """Mean, least and most of the SM and memory clocks, and what is possible. `busy_mean` leaves idle samples out."""
    out: dict[str, dict[str, float | None]] = {}
    for name in ("sm", "memory"):
        at = known(rows[f"{name}_clock_mhz"])
        values, busy = rows[f"{name}_clock_mhz"][at], working(rows[at])
        some = len(values) > 0
        out[name] = {
            "mean": float(values.mean()) if some else None,
            "min": float(values.min()) if some else None,
            "max": float(values.max()) if some else None,
            "busy_mean": float(values[busy].mean()) if busy.any() else None,
            "max_possible": most.get(name),
        }
    return out


def working(rows: np.ndarray) -> np.ndarray:
    """Which samples saw the device at work, bool [rows]: not idle by its event reasons, or else by its utilization."""
    if known(rows["event_reasons"]).any():
        return known(rows["event_reasons"]) & (rows["event_reasons"] & IDLE == 0)
    return rows["gpu_utilization"] > BUSY  # NaN is not


def event_reasons(rows: np.ndarray, end_ns: int) -> list[dict[str, Any]]:
    """For how long each reason held, longest first: every reading stands until the next one."""
    at = known(rows["event_reasons"])
    times, bits = rows["time_ns"][at], rows["event_reasons"][at]
    if len(times) == 0:
        return []
    seconds = np.diff(np.append(times, max(end_ns, int(times[-1])))) * NS
    found = []
    for name, bit in {name: bit for bit, name in REASONS.items()}.items():
        held = float(seconds[bits & bit != 0].sum())
        if held > 0:
            found.append({"reason": name, "seconds": held})
    return sorted(found, key=lambda one: -one["seconds"])


def temperature_c(rows: np.ndarray) -> dict[str, float | None]:
    """At the start, in the middle and at the end (means of a twentieth of the readings each), and the most."""
    values = column(rows, "temperature_c")
    if len(values) == 0:
        return dict.fromkeys(("start", "middle", "end", "max"))
    part = max(len(values) // 20, 1)
    middle = (len(values) - part) // 2
    return {
        "start": float(values[:part].mean()),
        "middle": float(values[middle : middle + part].mean()),
        "end": float(values[-part:].mean()),
        "max": float(values.max()),
    }


def mean(rows: np.ndarray, name: str) -> float | None:
    values = column(rows, name)
    return float(values.mean()) if len(values) else None


def rates(table: np.ndarray, rows: np.ndarray, link: str, start_ns: int, end_ns: int) -> dict[str, Any]:
    """Bytes a second sent and received over a link ("pcie", "nvlink") in the window, and from which source.

    GPM's rates where there are any, else the byte counters, interpolated to the edges; a counter that went back is
    not used.
    """
    by_gpm = {way: mean(rows, f"gpm_{link}_{way}_bytes_per_s") for way in ("tx", "rx")}
    if None not in by_gpm.values():
        return {**by_gpm, "source": "gpm"}
    found: dict[str, Any] = {}
    for way in ("tx", "rx"):
        at = known(table[f"{link}_{way}_bytes"])
        times, count = table["time_ns"][at].astype(np.float64), table[f"{link}_{way}_bytes"][at]
        covered = len(times) > 1 and times[0] <= start_ns and times[-1] >= end_ns and end_ns > start_ns
        if not covered or (np.diff(count) < 0).any():
            return {"tx": None, "rx": None, "source": None}
        used = np.diff(np.interp([start_ns, end_ns], times, count))[0]
        found[way] = float(used) / ((end_ns - start_ns) * NS)
    return {**found, "source": "counter"}


def memory_bytes(
    table: np.ndarray, phases: Mapping[str, int], window: np.ndarray, total: int | None, held: Mapping[str, int | None]
) -> dict[str, int | None]:
    """The device's memory in use when each phase was over and at its peak in the window, and what it was used for.

    `phases` holds the monotonic ns at which `load`, `warmup` and `measure` began; `held` the device's own part of what
    the engine says of `weights` and `kv_cache`. `rest` is what the worker needs beyond both at the peak: the peak
    less what was in use before the load.
    """
    at = known(table["memory_used_bytes"])
    times, used = table["time_ns"][at], table["memory_used_bytes"][at]
    out: dict[str, int | None] = {}
    for name, phase in {"before_load": "load", "after_load": "warmup", "after_warmup": "measure"}.items():
        moment = phases.get(phase)
        place = -1 if moment is None else int(np.searchsorted(times, moment, side="right")) - 1
        out[name] = int(used[place]) if place >= 0 else None
    most, own = column(window, "memory_used_bytes"), column(window, "memory_worker_bytes")
    out["peak"] = int(most.max()) if len(most) else None
    out["worker"] = int(own.max()) if len(own) else None
    out["weights"], out["kv_cache"] = held.get("weights"), held.get("kv_cache")
    parts = (out["peak"], out["before_load"], out["weights"], out["kv_cache"])
    out["rest"] = None
    if None not in parts:
        peak, before, weights, cache = (int(part or 0) for part in parts)
        out["rest"] = peak - before - weights - cache
    out["total"] = total
    return out


def strangers(
    processes: list[dict[str, Any]], start_ns: int, end_ns: int, followed_ns: int | None
) -> list[dict[str, Any]]:
    """The processes on the device during the window that are not the worker's: {pid, name, peak_bytes} each.

    In a container the driver may list the worker under a number that is not known there. So where none of the worker's
    own is listed, a number without a name that came after the worker was started, and before the window, is its own.
    """
    own_seen = any(one["own"] for one in processes)
    found = []
    for one in processes:
        if one["own"] or one["last_ns"] < start_ns or one["first_ns"] > end_ns:
            continue
        before = followed_ns is None or one["first_ns"] < followed_ns
        if own_seen or one["name"] is not None or before or one["first_ns"] > start_ns:
            found.append({name: one[name] for name in ("pid", "name", "peak_bytes")})
    return found


def energy_j(
    table: np.ndarray, start_ns: int, end_ns: int, idle_end_ns: int | None, missing_ns: int | None
) -> tuple[dict[str, Any], float | None, energy.Curve | None]:
    """(the window's energy, idle power in W, the curve that it was taken from).

    The counter is the source; the integral of the power reading stands beside it, or in for it where there is no
    counter.
    """
    times, watts = table["time_ns"], power_of(table)
    counter, integral = energy.counter_curve(times, table["energy_j"]), energy.power_curve(times, watts)
    by = {"counter": energy.used_j(counter, start_ns, end_ns), "integral": energy.used_j(integral, start_ns, end_ns)}
    if missing_ns is not None and missing_ns < end_ns:
        by = dict.fromkeys(by)
    source = next((name for name, joules in by.items() if joules is not None), None)
    curve = {"counter": counter, "integral": integral, None: None}[source]
    idle = None
    if idle_end_ns is not None and len(times) and int(times[0]) < idle_end_ns:
        used = energy.used_j(counter, int(times[0]), idle_end_ns)
        quiet = watts[(times < idle_end_ns) & known(watts)]
        idle = used / ((idle_end_ns - int(times[0])) * NS) if used else float(quiet.mean()) if len(quiet) else None
    window = by[source] if source else None
    apart = None if None in by.values() or not by["counter"] else (by["integral"] or 0.0) / by["counter"] - 1
    found = {
        "window": window,
        "above_idle": None if window is None or idle is None else window - idle * (end_ns - start_ns) * NS,
        "source": source,
        **by,
        "counter_integral_difference": apart,
    }
    return found, idle, curve
