"""All devices of a run, and their energy together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from innerloop.harness.analysis import device, energy
from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.device_facts import DeviceFacts
from innerloop.harness.analysis.samples import Samples
from innerloop.harness.schema.telemetry import Device, DeviceEnergy, Maximum, PerToken, TotalEnergy, Utilization

MIG_NOTE = "power readings cover the whole GPU, which this slice shares with others"
UNKNOWN_WORKER = "the driver does not list the worker's processes (common in containers), so their memory is unknown"


@dataclass(frozen=True)
class Window:
    """What a device's figures are about. `steps` is of dtype STEP; `phases` holds the monotonic ns at which each of
    the worker's phases began; `held` what the engine says that it allotted, over all devices: `weights`, `kv_cache`."""

    start_ns: int
    end_ns: int
    steps: np.ndarray
    phases: Mapping[str, int]
    held: Mapping[str, int | None]
    steady: tuple[int, int] | None = None

    @property
    def tokens(self) -> int:
        return int(self.steps["output_tokens"].sum(dtype=np.int64))

    @property
    def steady_tokens(self) -> int:
        if self.steady is None:
            return 0
        inside = (self.steps["end_ns"] > self.steady[0]) & (self.steps["end_ns"] <= self.steady[1])
        return int(self.steps["output_tokens"][inside].sum(dtype=np.int64))


def describe(sampled: Sequence[Samples], window: Window) -> tuple[Device, ...]:
    """One entry a device, in the order of `sampled`. Each is given an equal part of what the engine allotted."""
    share = {
        name: None if size is None else round(size / len(sampled)) for name, size in window.held.items() if sampled
    }
    return tuple(_describe(samples, window, share) for samples in sampled)


def _describe(samples: Samples, window: Window, held: Mapping[str, int | None]) -> Device:
    facts, table = DeviceFacts.of(samples.facts), samples.table
    start_ns, end_ns = window.start_ns, window.end_ns
    rows = samples.between(start_ns, end_ns) if end_ns > start_ns else table[:0]
    missing_ns, reason = missing(samples, start_ns, end_ns)
    joules, idle_w, curve = device.energy_j(table, start_ns, end_ns, facts.idle_until_ns, missing_ns)
    own_seen = any(process.own for process in facts.processes)
    return Device(
        index=facts.index,
        uuid=facts.uuid,
        name=facts.name,
        mig=facts.mig,
        driver=facts.driver,
        architecture=facts.architecture,
        power_limit_w=facts.power_limit_w,
        supported=facts.supported,
        source=samples.source,
        interval_s=samples.interval_s,
        samples=len(rows),
        missing_from_s=None if missing_ns is None or end_ns <= start_ns else (missing_ns - start_ns) * NS,
        missing_reason=reason,
        faults=facts.faults,
        energy_j=_energy(joules, curve, window, facts.mig is not None, missing_ns is not None),
        idle_power_w=idle_w,
        power_w=device.power_w(rows),
        update_period_s=energy.update_period_s(rows["time_ns"], device.power_of(rows)),
        memory_bytes=device.memory_bytes(table, window.phases, rows, facts.memory_total_bytes, held),
        memory_note=UNKNOWN_WORKER if facts.reads("processes") and not own_seen else None,
        utilization=Utilization(device.mean(rows, "gpu_utilization"), device.mean(rows, "memory_utilization")),
        clocks_mhz=device.clocks_mhz(rows, facts.max_sm_clock_mhz, facts.max_memory_clock_mhz),
        temperature_c=device.temperature_c(rows),
        memory_temperature_c=Maximum(max(map(float, device.column(rows, "memory_temperature_c")), default=None)),
        event_reasons=device.event_reasons(rows, start_ns, end_ns),
        pcie_bytes_per_s=device.rates(table, rows, "pcie", start_ns, end_ns),
        nvlink_bytes_per_s=device.rates(table, rows, "nvlink", start_ns, end_ns),
        gpm={name: device.mean(rows, name) for name in device.GPM} if facts.reads("gpm") else None,
        foreign_processes=device.strangers(facts.processes, start_ns, end_ns, facts.followed_ns),
    )


def missing(samples: Samples, start_ns: int, end_ns: int) -> tuple[int | None, str | None]:
    """From when on, in monotonic ns, the device could not be read any more, and why.

    (None, None) if it could until the window's end; a window that never opened has none.
    """
    facts, times = DeviceFacts.of(samples.facts), samples.table["time_ns"]
    if facts.missing_from_ns is not None:
        since, reason = facts.missing_from_ns, facts.missing_reason
    elif samples.error is not None:
        followed_ns = start_ns if facts.followed_ns is None else facts.followed_ns
        since, reason = int(times[-1]) if len(times) else followed_ns, samples.error
    else:
        return None, None
    return (None, None) if start_ns < end_ns <= since else (since, reason)


def _energy(
    joules: device.WindowEnergy, curve: energy.Curve | None, window: Window, sliced: bool, lost: bool
) -> DeviceEnergy:
    """The energy of the window, a token and a kind of steps; what is not known is None, and `note` says why."""
    steps, notes = window.steps, [MIG_NOTE] if sliced else []
    prefill = decode = None
    if joules.window is None:
        notes.append(
            "the device was lost" if lost else "neither the energy counter nor the power readings cover the window"
        )
    else:
        if joules.source == "integral":
            notes.append("the device has no working energy counter; energy is the integral of its power readings")
        if len(steps) and int(steps["prefill_tokens"].min()) >= 0:
            prefill, decode, why = energy.by_kind(
                curve, steps["start_ns"], steps["end_ns"], steps["prefill_tokens"] > 0
            )
            notes += [f"no energy by phase: {why}"] if why else []
        else:
            notes.append("no energy by phase: the engine does not report which steps had prefill")
    each = per_token(joules.window, joules.above_idle, window.tokens)
    steady = None if joules.window is None else steady_j(curve, window)
    return DeviceEnergy(
        window=joules.window,
        above_idle=joules.above_idle,
        per_token=each.per_token,
        per_token_above_idle=each.per_token_above_idle,
        tokens_per_j=each.tokens_per_j,
        prefill_steps=prefill,
        decode_only_steps=decode,
        source=joules.source,
        counter=joules.counter,
        integral=joules.integral,
        counter_integral_difference=joules.counter_integral_difference,
        resolution_s=None if curve is None else curve.resolution_s,
        note="; ".join(notes) or None,
        steady=steady,
        steady_per_token=_over(steady, window.steady_tokens),
    )


def steady_j(curve: energy.Curve | None, window: Window) -> float | None:
    """Energy of the steady window; None where there is none, or the curve does not cover it."""
    return None if window.steady is None else energy.used_j(curve, *window.steady)


def _over(joules: float | None, tokens: int) -> float | None:
    return joules / tokens if joules is not None and tokens else None


def per_token(window_j: float | None, above_idle_j: float | None, tokens: int) -> PerToken:
    """Energy over output tokens, and the other way round."""
    return PerToken(
        per_token=_over(window_j, tokens),
        per_token_above_idle=_over(above_idle_j, tokens),
        tokens_per_j=tokens / window_j if window_j else None,
    )


def total_energy_j(devices: Sequence[Device], tokens: int, steady_tokens: int = 0) -> TotalEnergy | None:
    """All devices together, a GPU of which several slices are used once; None without devices.

    One device whose energy is not known makes the sum unknown: a part would pass for the whole.
    """
    if not devices:
        return None
    whole = {
        (one.mig.parent_uuid if one.mig else None) or one.uuid or place: one.energy_j
        for place, one in enumerate(devices)
    }
    window = _sum([joules.window for joules in whole.values()])
    total = _total(window, _sum([joules.above_idle for joules in whole.values()]), None, tokens)
    steady = _sum([joules.steady for joules in whole.values()])
    return replace(total, steady=steady, steady_per_token=_over(steady, steady_tokens))


def _sum(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _total(window: float | None, above_idle: float | None, dram: float | None, tokens: int) -> TotalEnergy:
    each = per_token(window, above_idle, tokens)
    return TotalEnergy(
        window=window,
        above_idle=above_idle,
        dram=dram,
        per_token=each.per_token,
        per_token_above_idle=each.per_token_above_idle,
        tokens_per_j=each.tokens_per_j,
    )


def cpu_energy_j(samples: Samples | None, window: Window) -> TotalEnergy | None:
    """The CPU sockets' energy in the window, and their memory's where it is counted apart; None where not readable."""
    if samples is None:
        return None
    times = samples.table["time_ns"]
    curve = energy.counter_curve(times, samples.table["package_j"])
    used = energy.used_j(curve, window.start_ns, window.end_ns)
    dram = energy.used_j(energy.counter_curve(times, samples.table["dram_j"]), window.start_ns, window.end_ns)
    steady = steady_j(curve, window)
    total = _total(used, None, dram, window.tokens)
    return replace(total, steady=steady, steady_per_token=_over(steady, window.steady_tokens))
