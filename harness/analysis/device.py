"""One device over a window, from its samples: power, energy, memory, activity, clocks, who else was on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from innerloop.harness.analysis import energy
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.device_facts import SeenProcess
from innerloop.harness.schema.quantiles import values_needed
from innerloop.harness.schema.telemetry import (
    Clock,
    ClockEvent,
    Clocks,
    DeviceMemory,
    ForeignProcess,
    LinkRates,
    PowerSummary,
    Temperature,
)

POWER_POINTS = (0.5, 0.9, 0.99)
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


def power_w(rows: np.ndarray) -> PowerSummary:
    """Mean, p50, p90, p99 and maximum of the power readings; a quantile of too few of them is None."""
    watts = power_of(rows)
    watts = watts[known(watts)]
    if len(watts) == 0:
        return PowerSummary(mean=None, p50=None, p90=None, p99=None, max=None)
    p50, p90, p99 = (
        float(found) if len(watts) >= values_needed(q) else None
        for q, found in zip(POWER_POINTS, np.quantile(watts, POWER_POINTS), strict=True)
    )
    return PowerSummary(mean=float(watts.mean()), p50=p50, p90=p90, p99=p99, max=float(watts.max()))


def clocks_mhz(rows: np.ndarray, max_sm: float | None, max_memory: float | None) -> Clocks:
    """The SM and memory clocks; `max_sm` and `max_memory` are what the device could do."""
    return Clocks(sm=_clock(rows, "sm_clock_mhz", max_sm), memory=_clock(rows, "memory_clock_mhz", max_memory))


def _clock(rows: np.ndarray, name: str, most: float | None) -> Clock:
    """Mean, least and most of one clock; `busy_mean` leaves idle samples out."""
    at = known(rows[name])
    values, busy = rows[name][at], working(rows[at])
    some = len(values) > 0
    return Clock(
        mean=float(values.mean()) if some else None,
        min=float(values.min()) if some else None,
        max=float(values.max()) if some else None,
        busy_mean=float(values[busy].mean()) if busy.any() else None,
        max_possible=most,
    )


def working(rows: np.ndarray) -> np.ndarray:
    """Which samples saw the device at work, bool [rows]: not idle by its event reasons, or else by its utilization."""
    if known(rows["event_reasons"]).any():
        return known(rows["event_reasons"]) & (rows["event_reasons"] & IDLE == 0)
    return rows["gpu_utilization"] > BUSY  # NaN is not


def event_reasons(rows: np.ndarray, start_ns: int, end_ns: int) -> tuple[ClockEvent, ...]:
    """For how long each reason held in [start, end], longest first: every reading stands until the next one."""
    at = known(rows["event_reasons"])
    times, bits = rows["time_ns"][at], rows["event_reasons"][at]
    if len(times) == 0:
        return ()
    seconds = np.diff(np.clip(np.append(times, end_ns), start_ns, end_ns)) * NS
    held = [ClockEvent(reason, float(seconds[bits & bit != 0].sum())) for bit, reason in REASONS.items()]
    return tuple(sorted((event for event in held if event.seconds > 0), key=lambda event: -event.seconds))


def temperature_c(rows: np.ndarray) -> Temperature:
    """At the start, in the middle and at the end (means of a twentieth of the readings each), and the most."""
    values = column(rows, "temperature_c")
    if len(values) == 0:
        return Temperature(start=None, middle=None, end=None, max=None)
    part = max(len(values) // 20, 1)
    middle = (len(values) - part) // 2
    return Temperature(
        start=float(values[:part].mean()),
        middle=float(values[middle : middle + part].mean()),
        end=float(values[-part:].mean()),
        max=float(values.max()),
    )


def mean(rows: np.ndarray, name: str) -> float | None:
    values = column(rows, name)
    return float(values.mean()) if len(values) else None


def rates(table: np.ndarray, rows: np.ndarray, link: str, start_ns: int, end_ns: int) -> LinkRates:
    """Bytes a second sent and received over a link ("pcie", "nvlink") in the window, and from which source.

    GPM's rates where there are any, else the byte counters.
    """
    tx, rx = (mean(rows, f"gpm_{link}_{way}_bytes_per_s") for way in ("tx", "rx"))
    if tx is not None and rx is not None:
        return LinkRates(tx, rx, "gpm")
    tx, rx = (_counted_per_s(table, f"{link}_{way}_bytes", start_ns, end_ns) for way in ("tx", "rx"))
    if tx is not None and rx is not None:
        return LinkRates(tx, rx, "counter")
    return LinkRates(None, None, None)


def _counted_per_s(table: np.ndarray, name: str, start_ns: int, end_ns: int) -> float | None:
    """How fast a counter rose, interpolated to the window's edges; None if it does not cover them or went back."""
    at = known(table[name])
    times, count = table["time_ns"][at].astype(np.float64), table[name][at]
    covered = len(times) > 1 and times[0] <= start_ns and times[-1] >= end_ns and end_ns > start_ns
    if not covered or (np.diff(count) < 0).any():
        return None
    rise = np.diff(np.interp([start_ns, end_ns], times, count))[0]
    return float(rise) / ((end_ns - start_ns) * NS)


def memory_bytes(
    table: np.ndarray, phases: Mapping[str, int], window: np.ndarray, total: int | None, held: Mapping[str, int | None]
) -> DeviceMemory:
    """The device's memory in use when each phase was over and at its peak in the window, and what it was used for.

    `phases` holds the monotonic ns at which `load`, `warmup` and `measure` began; `held` the device's own part of what
    the engine says of `weights` and `kv_cache`. `rest` is what the worker needs beyond both at the peak: the peak
    less what was in use before the load.
    """
    at = known(table["memory_used_bytes"])
    times, used = table["time_ns"][at], table["memory_used_bytes"][at]

    def before(phase: str) -> int | None:
        moment = phases.get(phase)
        place = -1 if moment is None else int(np.searchsorted(times, moment, side="right")) - 1
        return int(used[place]) if place >= 0 else None

    most, own = column(window, "memory_used_bytes"), column(window, "memory_worker_bytes")
    peak, before_load = int(most.max()) if len(most) else None, before("load")
    weights, cache = held.get("weights"), held.get("kv_cache")
    rest = None
    if peak is not None and before_load is not None and weights is not None and cache is not None:
        rest = peak - before_load - weights - cache
    return DeviceMemory(
        before_load=before_load,
        after_load=before("warmup"),
        after_warmup=before("measure"),
        peak=peak,
        worker=int(own.max()) if len(own) else None,
        weights=weights,
        kv_cache=cache,
        rest=rest,
        total=total,
    )


def strangers(
    processes: Sequence[SeenProcess], start_ns: int, end_ns: int, followed_ns: int | None
) -> tuple[ForeignProcess, ...]:
    """The processes on the device during the window that are not the worker's.

    In a container the driver may list the worker under a number that is not known there. So where none of the worker's
    own is listed, a number without a name that came after the worker was started, and before the window, is its own.
    """
    own_seen = any(process.own for process in processes)
    others = []
    for process in processes:
        if process.own or process.last_ns < start_ns or process.first_ns > end_ns:
            continue
        before = followed_ns is None or process.first_ns < followed_ns
        if own_seen or process.name is not None or before or process.first_ns > start_ns:
            others.append(ForeignProcess(process.pid, process.name, process.peak_bytes))
    return tuple(others)


@dataclass(frozen=True, slots=True)
class WindowEnergy:
    """The window's energy in joules: `window` is taken from `source`. None: not known."""

    window: float | None
    above_idle: float | None
    source: Literal["counter", "integral"] | None
    counter: float | None
    integral: float | None
    counter_integral_difference: float | None


def energy_j(
    table: np.ndarray, start_ns: int, end_ns: int, idle_end_ns: int | None, missing_ns: int | None
) -> tuple[WindowEnergy, float | None, energy.Curve | None]:
    """(the window's energy, idle power in W, the curve that it was taken from).

    The counter is the source; the integral of the power reading stands beside it, or in for it where there is no
    counter.
    """
    times, watts = table["time_ns"], power_of(table)
    by_counter, by_power = energy.counter_curve(times, table["energy_j"]), energy.power_curve(times, watts)
    lost = missing_ns is not None and missing_ns < end_ns
    counter = None if lost else energy.used_j(by_counter, start_ns, end_ns)
    integral = None if lost else energy.used_j(by_power, start_ns, end_ns)
    source: Literal["counter", "integral"] | None = None
    window, curve = None, None
    if counter is not None:
        source, window, curve = "counter", counter, by_counter
    elif integral is not None:
        source, window, curve = "integral", integral, by_power
    idle = _idle_w(table, by_counter, idle_end_ns)
    joules = WindowEnergy(
        window=window,
        above_idle=None if window is None or idle is None else window - idle * (end_ns - start_ns) * NS,
        source=source,
        counter=counter,
        integral=integral,
        counter_integral_difference=integral / counter - 1 if counter and integral is not None else None,
    )
    return joules, idle, curve


def _idle_w(table: np.ndarray, counter: energy.Curve | None, idle_end_ns: int | None) -> float | None:
    """Mean power from the first sample to `idle_end_ns`: by the counter, else by the power reading."""
    times, watts = table["time_ns"], power_of(table)
    if idle_end_ns is None or len(times) == 0 or int(times[0]) >= idle_end_ns:
        return None
    used = energy.used_j(counter, int(times[0]), idle_end_ns)
    if used:
        return used / ((idle_end_ns - int(times[0])) * NS)
    quiet = watts[(times < idle_end_ns) & known(watts)]
    return float(quiet.mean()) if len(quiet) else None
