"""The result's sections on the worker's start and memory."""

from __future__ import annotations

from innerloop.harness.analysis import host as host_analysis
from innerloop.harness.result.record import Record
from innerloop.harness.schema.startup import Memory, Startup


def startup_s(record: Record) -> Startup:
    """Seconds of each part of the start and of all; the sum is None as soon as a part is not known.

    The preparation of the model is apart: it is made once and kept.
    """
    reported = record.reported
    warmup = reported.get("warmup_s")
    if warmup is None:
        warmup = (reported.get("warmup") or {}).get("seconds")
    parts = {
        "interpreter": reported.get("interpreter_s"),
        "imports": reported.get("import_s"),
        "load": reported.get("load_s"),
        "warmup": warmup,
    }
    known = [seconds for seconds in parts.values() if seconds is not None]
    total = sum(known) if len(known) == len(parts) else None
    return Startup(**parts, total=total, preparation=record.preparation_s)


def memory_bytes(record: Record) -> Memory:
    """Memory of the worker's processes at the phases' ends and its peak; what the engine says of its own."""
    host = next((one for one in record.tables.samples if one.source == "host"), None)
    sampled, own = host_analysis.memory_bytes(host, record.phases), record.reported.get("memory_bytes") or {}
    known = {name: [size for m in (sampled, own) if (size := m.get(name)) is not None] for name in sampled}
    largest = {name: max(values) if values else None for name, values in known.items()}
    return Memory(
        **largest,  # the samples count the worker's children, its own account misses no moment
        weights=record.info.get("weights_bytes"),
        kv_cache=record.info.get("kv_cache_bytes"),
    )
