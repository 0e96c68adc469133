"""A run's result: put together from its record."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from innerloop.harness import __version__
from innerloop.harness.analysis import client
from innerloop.harness.analysis.observer import step_ratio
from innerloop.harness.analysis.run import analyse
from innerloop.harness.result import roofline as limit
from innerloop.harness.result import telemetry
from innerloop.harness.result.reasons import reasons
from innerloop.harness.result.record import Record
from innerloop.harness.result.startup import memory_bytes, startup_s
from innerloop.harness.store.documents import plain
from innerloop.harness.store.result_file import SCHEMA_VERSION


def build(record: Record) -> dict[str, Any]:
    """The result as plain data, ready for `result_file.write`."""
    spec, tables = record.spec, record.tables
    info = dict(record.info)
    able = info.pop("client", None)
    caching = bool(record.effective.get("prefix_caching"))
    observed = info.get("stepping") == "observed"
    figures = analyse(
        tables.steps, tables.tokens, tables.requests, tables.header, prefix_caching=caching, observed=observed
    )
    checks = figures.pop("checks")
    figures["window"]["asked_s"] = record.asked_s
    figures["overhead"]["clock_ns_per_call"] = record.reported.get("clock_ns_per_call")
    figures["overhead"].update(step_ratio(record.reported.get("step_pairs") or ()))
    figures["client"] = client.account(
        able,
        record.reported.get("process_cpu_s"),
        figures["window"]["duration_s"],
        figures["throughput"]["decode_tokens_per_s"],
    )
    seen = telemetry.section(record)
    roofline = limit.section(spec, record.effective, tables, record.ceilings, record.no_ceilings)
    found = reasons(record, figures, checks, seen)
    result = {
        "schema_version": SCHEMA_VERSION,
        "innerloop_version": __version__,
        "created": record.created or datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "status": "failed" if record.failure is not None else "suspect" if found else "ok",
        "reasons": found,
        "notes": [
            *(info.get("notes") or ()),
            *record.notes,
            *([record.device_note] if record.device_note else []),
            *tables.notes,
            *limit.notes(roofline),
        ],
        "spec": dict(spec),
        "workload": dict(record.workload or {}) or None,
        "workload_hash": record.workload_hash,
        "engine": {"name": spec.get("engine"), "layer": spec.get("layer"), **info},
        "checkpoint": record.checkpoint,
        "environment": record.environment,
        "startup_s": startup_s(record),
        "warmup": record.reported.get("warmup"),
        **figures,
        "roofline": roofline,
        "profile": None,  # session.passes adds both when a pass was asked for
        "kernels": None,
        "checks": checks,
        "memory_bytes": memory_bytes(record),
        "telemetry": seen,
        "failure": record.failure,
    }
    return plain(result)
