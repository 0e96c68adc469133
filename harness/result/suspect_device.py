"""What makes a run's device figures, and so the run, doubtful."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from innerloop.harness.analysis import energy
from innerloop.harness.cli.words import number, share, size
from innerloop.harness.result.codes import doubt
from innerloop.harness.result.suspect import SAMPLING_GAP_S
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.telemetry import Device, ForeignProcess, SamplerCost

THROTTLES = {  # event reasons that hold the clocks down, and what to do about each
    "sw_power_cap": "Raise the power limit if the device allows it, or compare at equal limits.",
    "hw_slowdown": "Check the device's cooling and power supply.",
    "sw_thermal_slowdown": "Improve the device's cooling.",
    "hw_thermal_slowdown": "Improve the device's cooling.",
    "hw_power_brake_slowdown": (
        "An external power-brake signal forced it: check the machine's power supply and its limits."
    ),
    "sync_boost": "A slower device in its sync boost group holds it back: remove it from the group.",
    "board_limit": "Check the device's power supply.",
    "reliability": "The device is protecting itself: check its voltage and age.",
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
        when = f"since {since_s:.1f} s into the window" if since_s >= 0 else "since before the window opened"
        yield doubt(
            "device_lost",
            f"{name} has been unreadable {when}: {device.missing_reason}",
            "Check the kernel log for Xid errors, and repeat once the device is back.",
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
            f"{name} ran at {number(round(busy))} MHz on average, {share(busy / most)} of its {number(most)} MHz",
            "Check for a clock limit (nvidia-smi -q -d CLOCK), throttling, or a load too small to raise the clocks.",
        )
    heat = device.temperature_c
    if heat.end is not None and heat.middle is not None and heat.end - heat.middle > RISE_C:
        yield doubt(
            "temperature_rising",
            f"{name} was still warming up: {heat.middle:.0f} °C in the middle, {heat.end:.0f} °C at the end",
            "Warm up or measure for longer: clocks and power change with temperature.",
        )


def _others(name: str, strangers: Sequence[ForeignProcess]) -> Iterator[Reason]:
    if strangers:
        shown = ", ".join(
            f"{one.name or 'an unnamed process'} ({one.pid}"
            + (f", {size(one.peak_bytes)})" if one.peak_bytes is not None else ")")
            for one in strangers
        )
        yield doubt(
            "foreign_process",
            f"{name} was also used by {shown}",
            "Stop the other processes on the device, and repeat.",
        )


def _energy(name: str, device: Device, window_s: float) -> Iterator[Reason]:
    used = device.energy_j
    apart = used.counter_integral_difference
    period_s = max(device.update_period_s or 0.0, used.resolution_s or 0.0)
    if period_s and energy.too_short(0, round(window_s * 1e9), period_s):
        yield doubt(
            "window_too_short_for_energy",
            f"{name}'s power and energy update every {period_s * 1e3:.0f} ms, and the window is {window_s:.2f} s, "
            "so its energy is not known to within 5 %",
            f"Measure at least {energy.LEAST_PERIODS * period_s:.1f} s.",
        )
    elif apart is not None and abs(apart) > MISMATCH:
        yield doubt(
            "energy_mismatch",
            f"{name}'s energy counter reads {number(used.counter)} J, but the integral of its power is "
            f"{number(used.integral)} J ({apart:+.1%})",
            "Trust neither to better than this difference: power readings may miss bursts, or the counter may cover "
            "more than the device's power reading.",
        )


def _sampling(name: str, sampler: SamplerCost | None) -> Iterator[Reason]:
    gap_s = None if sampler is None else sampler.longest_gap_s
    if gap_s is not None and gap_s > SAMPLING_GAP_S:
        yield doubt(
            "device_sampling_gap",
            f"{name} was not sampled for {gap_s:.1f} s",
            "The harness got no CPU time, the driver hung, or the machine was suspended: repeat with a spare core.",
        )
