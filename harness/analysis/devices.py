"""All devices of a run: the result's telemetry.devices and telemetry.energy_j."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from innerloop.harness.analysis import device, energy
from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.samples import Samples

MIG_NOTE = "the whole GPU's power: other slices share it"
UNKNOWN_WORKER = "the driver lists no process of the worker's (as in a container), so its own memory is not known"


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


def describe(sampled: Sequence[Samples], window: Window) -> list[dict[str, Any]]:
    """One entry a device for the result's telemetry.devices; see docs/metrics.md for the fields."""
    share = {
        name: None if size is None else round(size / len(sampled)) for name, size in window.held.items() if sampled
    }
    return [_describe(one, window, share) for one in sampled]


def _describe(samples: Samples, window: Window, held: Mapping[str, int | None]) -> dict[str, Any]:
    facts, table = samples.facts, samples.table
    start_ns, end_ns = window.start_ns, window.end_ns
    rows = samples.between(start_ns, end_ns) if end_ns > start_ns else table[:0]
    missing_ns, reason = missing(samples, start_ns, end_ns)
    used, idle, curve = device.energy_j(table, start_ns, end_ns, facts.get("idle_until_ns"), missing_ns)
    period_s = energy.update_period_s(rows["time_ns"], device.power_of(rows))
    processes = facts.get("processes") or []
    seen = any(one["own"] for one in processes)
    return {
        **{name: facts.get(name) for name in ("index", "uuid", "name", "mig", "driver", "architecture")},
        "power_limit_w": facts.get("power_limit_w"),
        "supported": facts.get("supported"),
        "source": samples.source,
        "interval_s": samples.interval_s,
        "samples": len(rows),
        "missing_from_s": None if missing_ns is None or end_ns <= start_ns else (missing_ns - start_ns) * NS,
        "missing_reason": reason,
        "faults": facts.get("faults") or {},
        "energy_j": _energy(used, curve, window, bool(facts.get("mig")), missing_ns is not None),
        "idle_power_w": idle,
        "power_w": device.power_w(rows),
        "update_period_s": period_s,
        "memory_bytes": device.memory_bytes(table, window.phases, rows, facts.get("memory_total_bytes"), held),
        "memory_note": None if seen or not (facts.get("supported") or {}).get("processes") else UNKNOWN_WORKER,
        "utilization": {name: device.mean(rows, f"{name}_utilization") for name in ("gpu", "memory")},
        "clocks_mhz": device.clocks_mhz(
            rows, {"sm": facts.get("max_sm_clock_mhz"), "memory": facts.get("max_memory_clock_mhz")}
        ),
        "temperature_c": device.temperature_c(rows),
        "memory_temperature_c": {"max": max(device.column(rows, "memory_temperature_c"), default=None)},
        "event_reasons": device.event_reasons(rows, end_ns),
        "pcie_bytes_per_s": device.rates(table, rows, "pcie", start_ns, end_ns),
        "nvlink_bytes_per_s": device.rates(table, rows, "nvlink", start_ns, end_ns),
        "gpm": {name: device.mean(rows, name) for name in device.GPM}
        if (facts.get("supported") or {}).get("gpm")
        else None,
        "foreign_processes": device.strangers(processes, start_ns, end_ns, facts.get("followed_ns")),
    }


def missing(samples: Samples, start_ns: int, end_ns: int) -> tuple[int | None, str | None]:
    """From when on, in monotonic ns, the device could not be read any more, and why.

    (None, None) if it could until the window's end; a window that never opened has none.
    """
    facts, times = samples.facts, samples.table["time_ns"]
    if "missing_from_ns" in facts:
        since, reason = facts["missing_from_ns"], facts["missing_reason"]
    elif samples.error is not None:
        since, reason = int(times[-1]) if len(times) else facts.get("followed_ns", start_ns), samples.error
    else:
        return None, None
    return (None, None) if start_ns < end_ns <= since else (since, reason)


def _energy(
    used: dict[str, Any], curve: energy.Curve | None, window: Window, sliced: bool, lost: bool
) -> dict[str, Any]:
    """The energy of the window, a token and a kind of steps; what is not known is None, and `note` says why."""
    steps, notes = window.steps, [MIG_NOTE] if sliced else []
    prefill = decode = None
    if used["window"] is None:
        notes.append("the device was lost" if lost else "neither the energy counter nor the power covers the window")
    else:
        if used["source"] == "integral":
            notes.append("the device has no working energy counter: this is the integral of its power reading")
        if len(steps) and int(steps["prefill_tokens"].min()) >= 0:
            prefill, decode, why = energy.by_kind(
                curve, steps["start_ns"], steps["end_ns"], steps["prefill_tokens"] > 0
            )
            notes += [f"no energy by phase where {why}"] if why else []
        else:
            notes.append("no energy by phase: the engine does not say which steps had prefill")
    return {
        "window": used["window"],
        "above_idle": used["above_idle"],
        **per_token(used["window"], used["above_idle"], window.tokens),
        **steady_j(None if used["window"] is None else curve, window),
        "prefill_steps": prefill,
        "decode_only_steps": decode,
        **{name: used[name] for name in ("source", "counter", "integral", "counter_integral_difference")},
        "resolution_s": None if curve is None else curve.resolution_s,
        "note": "; ".join(notes) or None,
    }


def steady_j(curve: energy.Curve | None, window: Window) -> dict[str, float | None]:
    """Energy of the steady window, and over the tokens that came in it."""
    used = None if window.steady is None else energy.used_j(curve, *window.steady)
    return {"steady": used, "steady_per_token": _over(used, window.steady_tokens)}


def _over(joules: float | None, tokens: int) -> float | None:
    return joules / tokens if joules is not None and tokens else None


def per_token(window_j: float | None, above_idle_j: float | None, tokens: int) -> dict[str, float | None]:
    """Energy over output tokens, and the other way round."""
    return {
        "per_token": _over(window_j, tokens),
        "per_token_above_idle": _over(above_idle_j, tokens),
        "tokens_per_j": tokens / window_j if window_j else None,
    }


def total_energy_j(
    entries: Sequence[Mapping[str, Any]], tokens: int, steady_tokens: int = 0
) -> dict[str, float | None] | None:
    """All devices together, a GPU of which several slices are used once; None without devices.

    One device whose energy is not known makes the sum unknown: a part would pass for the whole.
    """
    if not entries:
        return None
    whole = {(entry["mig"] or {}).get("parent_uuid") or entry["uuid"]: entry["energy_j"] for entry in entries}
    out: dict[str, float | None] = {}
    for name in ("window", "above_idle", "steady"):
        parts = [one[name] for one in whole.values()]
        out[name] = None if None in parts else sum(parts)
    out["steady_per_token"] = _over(out["steady"], steady_tokens)
    return {**out, **per_token(out["window"], out["above_idle"], tokens)}


def cpu_energy_j(samples: Samples | None, window: Window) -> dict[str, float | None] | None:
    """The CPU sockets' energy in the window, and their memory's where it is counted apart; None where not readable."""
    if samples is None:
        return None
    times = samples.table["time_ns"]
    curve = energy.counter_curve(times, samples.table["package_j"])
    used = energy.used_j(curve, window.start_ns, window.end_ns)
    dram = energy.used_j(energy.counter_curve(times, samples.table["dram_j"]), window.start_ns, window.end_ns)
    return {"window": used, "dram": dram, **steady_j(curve, window), **per_token(used, None, window.tokens)}
