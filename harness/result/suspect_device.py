"""What makes a run's device figures, and so the run, doubtful."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from innerloop.harness.analysis import energy
from innerloop.harness.cli.words import number, share, size
from innerloop.harness.result.codes import doubt
from innerloop.harness.result.suspect import SAMPLING_GAP_S
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.telemetry import Device, SamplerCost, Stranger

THROTTLES = {  # event reasons that hold the clocks down, and what to do about each
    "sw_power_cap": "It runs at its power limit: raise the limit if the device allows it, or compare at equal limits.",
    "hw_slowdown": "Look at the device's cooling and power supply.",
    "sw_thermal_slowdown": "Cool the device.",
    "hw_thermal_slowdown": "Cool the device.",
    "hw_power_brake_slowdown": "The machine's power supply asked for it: look at its limits.",
    "sync_boost": "The device follows a slower one of its sync boost group: take it out of the group.",
    "board_limit": "Look at the device's power supply.",
    "reliability": "The device protects itself: look at its voltage and age.",
}
THROTTLED_SHARE = 0.01  # of the window
LOW_CLOCKS = 0.75  # of the highest SM clock, while the device works (nvbench's threshold)
MISMATCH = 0.05  # between the counter and the integral of the power
RISE_C = 3.0  # in the second half of the window


def suspicions(devices: Sequence[Device], samplers: Mapping[str, SamplerCost], window_s: float) -> list[Reason]:
    """Every reason to doubt what the devices did; `samplers` by source. Nothing is concluded from what is unknown."""
    out: list[Reason] = []
    for device in devices:
        name = f"GPU {device.index}"
        out += _lost(name, device)
        out += _clocks(name, device, window_s)
        out += _others(name, device.foreign_processes)
        out += _energy(name, device, window_s)
        out += _sampling(name, samplers.get(device.source))
    return out


def _lost(name: str, device: Device) -> Iterator[Reason]:
    since_s = device.missing_from_s
    if since_s is not None:
        when = f"from {since_s:.1f} s into the window on" if since_s >= 0 else "from before the window on"
        yield doubt(
            "device_lost",
            f"{name} could not be read {when}: {device.missing_reason}",
            "Look at the kernel's log (Xid), and repeat once the device is back.",
        )


def _clocks(name: str, device: Device, window_s: float) -> Iterator[Reason]:
    for event in device.event_reasons:
        if event.reason in THROTTLES and event.seconds > THROTTLED_SHARE * window_s:
            yield doubt(
                "power_cap" if event.reason == "sw_power_cap" else "throttled",
                f"{name} lowered its clocks for {event.seconds:.1f} s ({event.reason})",
                THROTTLES[event.reason],
            )
    busy, most = device.clocks_mhz.sm.busy_mean, device.clocks_mhz.sm.max_possible
    if busy is not None and most and busy < LOW_CLOCKS * most:
        yield doubt(
            "low_clocks",
            f"{name} worked at {number(round(busy))} MHz on average, {share(busy / most)} of its {number(most)} MHz",
            "Look for a clock limit (nvidia-smi -q -d CLOCK), throttling, or too little work to wake the device.",
        )
    heat = device.temperature_c
    if heat.end is not None and heat.middle is not None and heat.end - heat.middle > RISE_C:
        yield doubt(
            "temperature_rising",
            f"{name} was still getting warmer: {heat.middle:.0f} °C in the middle, {heat.end:.0f} °C at the end",
            "Warm up for longer, or measure for longer: clocks and power change with the temperature.",
        )


def _others(name: str, strangers: Sequence[Stranger]) -> Iterator[Reason]:
    if strangers:
        shown = ", ".join(
            f"{one.name or 'a process without a name here'} ({one.pid}"
            + (f", {size(one.peak_bytes)})" if one.peak_bytes is not None else ")")
            for one in strangers
        )
        yield doubt(
            "foreign_process",
            f"{name} was also used by {shown}",
            "Stop what else runs on the device, and repeat.",
        )


def _energy(name: str, device: Device, window_s: float) -> Iterator[Reason]:
    used = device.energy_j
    apart = used.counter_integral_difference
    period_s = max(device.update_period_s or 0.0, used.resolution_s or 0.0)
    if period_s and energy.too_short(0, round(window_s * 1e9), period_s):
        yield doubt(
            "window_too_short_for_energy",
            f"{name}'s power and energy change every {period_s * 1e3:.0f} ms, and the window is {window_s:.2f} s: "
            "its energy is not known to 5 %",
            f"Measure for at least {energy.LEAST_PERIODS * period_s:.1f} s.",
        )
    elif apart is not None and abs(apart) > MISMATCH:
        yield doubt(
            "energy_mismatch",
            f"{name}'s energy counter says {number(used.counter)} J, the integral of its power "
            f"{number(used.integral)} J ({apart:+.1%})",
            "Trust neither to more than that: the power reading may miss bursts, or the counter may include more.",
        )


def _sampling(name: str, sampler: SamplerCost | None) -> Iterator[Reason]:
    gap_s = None if sampler is None else sampler.longest_gap_s
    if gap_s is not None and gap_s > SAMPLING_GAP_S:
        yield doubt(
            "device_sampling_gap",
            f"{name} was not sampled for {gap_s:.1f} s",
            "The harness was starved, the driver hung or the machine was suspended: repeat with a core to spare.",
        )
