"""The result's section `telemetry`: the host, the devices and their energy over the window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from innerloop.harness.analysis import devices as device_analysis
from innerloop.harness.analysis import host as host_analysis
from innerloop.harness.analysis.samples import Samples, cost
from innerloop.harness.result.record import Record
from innerloop.harness.schema.telemetry import Energy, Telemetry
from innerloop.harness.schema.window import Steady


def notes(samples: Sequence[Samples]) -> Iterator[str]:
    """What could not be sampled to the end; of devices that is a reason to doubt the run."""
    for one in samples:
        if one.error is not None and one.facts.get("kind") != "device":
            yield f"no {one.source} telemetry after {len(one.table)} samples: {one.error}"


def section(record: Record, steady: Steady) -> Telemetry:
    """`devices` is None where none could be sampled, and empty where the engine uses none."""
    samples, info = record.tables.samples, record.info
    start_ns, end_ns = record.window
    by_source = {one.source: one for one in samples}
    host = by_source.get("host")
    on_device = record.spec.get("device") != "cpu"  # else weights and KV cache lie in the host's memory
    held = {name: info.get(f"{name}_bytes") if on_device else None for name in ("weights", "kv_cache")}
    span = (steady.start_ns, steady.end_ns) if steady.start_ns is not None and steady.end_ns is not None else None
    window = device_analysis.Window(start_ns, end_ns, record.tables.steps, record.phases, held, span)
    sampled = [one for one in samples if one.facts.get("kind") == "device"]
    devices = device_analysis.describe(sampled, window)
    return Telemetry(
        host=None if host is None else host_analysis.summary(host, start_ns, end_ns),
        devices=devices if record.device_note is None else None,
        energy_j=Energy(
            devices=device_analysis.total_energy_j(devices, window.tokens, window.steady_tokens),
            cpu=device_analysis.cpu_energy_j(by_source.get("cpu"), window),
        ),
        sampler={source: cost(one, start_ns, end_ns) for source, one in by_source.items()},
    )
