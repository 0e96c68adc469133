"""A run's result: put together from what is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from innerloop.harness import __version__
from innerloop.harness.analysis import client as client_analysis
from innerloop.harness.analysis import devices as device_analysis
from innerloop.harness.analysis import host as host_analysis
from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.run import analyse, edges
from innerloop.harness.analysis.samples import cost
from innerloop.harness.result import roofline as limit
from innerloop.harness.result import suspect_client, suspect_device
from innerloop.harness.result.suspect import Reason, suspicions, unhonoured
from innerloop.harness.store.documents import plain
from innerloop.harness.store.result_file import SCHEMA_VERSION
from innerloop.harness.store.tables import Tables

if TYPE_CHECKING:
    from innerloop.harness.ceilings import Ceilings


def build(
    *,
    spec: Mapping[str, Any],
    workload: Mapping[str, Any] | None,
    workload_hash: str | None,
    tables: Tables,
    reported: Mapping[str, Any] | None = None,
    phases: Mapping[str, int] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    failure: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    device_note: str | None = None,
    ceilings: Ceilings | None = None,
    no_ceilings: str | None = None,
    created: str | None = None,
) -> dict[str, Any]:
    """The result as plain data, ready for `write`.

    `spec` is RunSpec.describe(), `workload` Workload.describe() (its `duration_s` is the window that was asked for),
    `tables` come from `convert` or `read_tables`, `reported` is the worker's account (any part may be missing),
    `phases` the monotonic ns at which each of its phases began, `failure` is None for a run that came to its end,
    `device_note` says why no device could be sampled (None also where the engine uses none).
    `ceilings` are what the machine can do at most, `no_ceilings` says why they are not known.
    `created` is a UTC time in ISO 8601, now if it is not given.
    """
    reported, workload = reported or {}, workload or {}
    info = dict(reported.get("info") or {})
    able = info.pop("client", None)
    caching = bool((info.get("effective") or {}).get("prefix_caching"))
    found = analyse(tables.steps, tables.tokens, tables.requests, tables.header, prefix_caching=caching)
    checks = found.pop("checks")
    found["window"]["asked_s"] = workload.get("duration_s")
    found["overhead"]["clock_ns_per_call"] = reported.get("clock_ns_per_call")
    found["client"] = client_analysis.account(
        able,
        reported.get("process_cpu_s"),
        found["window"]["duration_s"],
        found["throughput"]["decode_tokens_per_s"],
    )
    telemetry = _telemetry(tables, spec, info, phases or {}, device_note)
    roofline = limit.section(spec, info.get("effective") or {}, tables, ceilings, no_ceilings)
    if failure is not None:
        reasons = [{"code": failure["cause"], "detail": failure["message"], "advice": ADVICE.get(failure["cause"])}]
    else:
        doubts = _suspicions(tables, found, checks, reported, telemetry)
        doubts += suspect_client.suspicions(found["client"])
        doubts += unhonoured(spec.get("settings") or {}, info.get("effective") or {})
        reasons = [asdict(doubt) for doubt in doubts]
    result = {
        "schema_version": SCHEMA_VERSION,
        "innerloop_version": __version__,
        "created": created or datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "status": "failed" if failure is not None else "suspect" if reasons else "ok",
        "reasons": reasons,
        "notes": [
            *(info.get("notes") or ()),
            *notes,
            *([device_note] if device_note else []),
            *tables.notes,
            *limit.notes(roofline),
        ],
        "spec": dict(spec),
        "workload": dict(workload) or None,
        "workload_hash": workload_hash,
        "engine": {"name": spec.get("engine"), "layer": spec.get("layer"), **info},
        "checkpoint": checkpoint,
        "environment": environment,
        "startup_s": _startup(reported),
        "warmup": reported.get("warmup"),
        **found,
        "roofline": roofline,
        "profile": None,  # harness.profiling.passes adds both when a pass was asked for
        "kernels": None,
        "checks": checks,
        "memory_bytes": _memory(reported, phases or {}, tables),
        "telemetry": telemetry,
        "failure": failure,
    }
    return plain(result)


def _suspicions(
    tables: Tables,
    found: Mapping[str, Any],
    checks: list[dict[str, str]],
    reported: Mapping[str, Any],
    telemetry: Mapping[str, Any],
) -> list[Reason]:
    start_ns, end_ns = edges(tables.steps, tables.header)
    asked_s = found["window"]["asked_s"]
    of_run = suspicions(
        tables.steps,
        tables.requests,
        start_ns=start_ns,
        end_ns=end_ns,
        duration_ns=-1 if asked_s is None else round(asked_s * 1e9),
        bubble_share=found["time_share"]["bubbles"],
        recorder_share=found["overhead"]["recorder_share_of_step_time"],
        warmup=reported.get("warmup"),
        host=telemetry["host"],
        sampler=telemetry["sampler"].get("host"),
        checks=checks,
    )
    of_devices = suspect_device.suspicions(
        telemetry["devices"] or (), telemetry["sampler"], max(end_ns - start_ns, 0) * NS
    )
    return [*of_run, *of_devices]


ADVICE = {
    "engine_exception": "Read the traceback and the end of engine.log.",
    "out_of_memory_host": "Choose a smaller model, or a smaller kv_cache_tokens, or a machine with more memory.",
    "out_of_memory_device": "Lower kv_memory_fraction, max_batch_size or max_tokens_per_step, or use more devices.",
    "killed_by_signal": "If the kernel's log names the out-of-memory killer, choose a smaller model or KV cache.",
    "hang": "Read the end of engine.log; allow more with the hang limit if a step can take that long here.",
    "wrong_token_count": "The engine did not produce what was asked: report it with the run's folder.",
    "load_timeout": "Allow more with the load's time limit, and read the end of engine.log.",
    "install_failed": "Read the installer's words; check the network and the package index that pip is configured for.",
    "interrupted": None,
    "disk_full": "Free some disk space, or put the run elsewhere with --out.",
    "unsupported_setting": "Leave the setting to the engine, or choose an engine that has it.",
    "timeout": "Allow more with --timeout, or choose a smaller workload.",
    "no_tokens": "Read the end of engine.log: the engine ran and gave no token.",
}


def _telemetry(
    tables: Tables,
    spec: Mapping[str, Any],
    info: Mapping[str, Any],
    phases: Mapping[str, int],
    device_note: str | None,
) -> dict[str, Any]:
    start_ns, end_ns = edges(tables.steps, tables.header)
    by_source = {one.source: one for one in tables.samples}
    host = by_source.get("host")
    on_device = spec.get("device") != "cpu"  # else weights and KV cache lie in the host's memory
    held = {name: info.get(f"{name}_bytes") if on_device else None for name in ("weights", "kv_cache")}
    window = device_analysis.Window(start_ns, end_ns, tables.steps, phases, held)
    sampled = [one for one in tables.samples if one.facts.get("kind") == "device"]
    devices = device_analysis.describe(sampled, window)
    cpu = device_analysis.cpu_energy_j(by_source.get("cpu"), start_ns, end_ns, window.tokens)
    return {
        "host": None if host is None else host_analysis.summary(host, start_ns, end_ns),
        "devices": devices if device_note is None else None,
        "energy_j": {"devices": device_analysis.total_energy_j(devices, window.tokens), "cpu": cpu},
        "sampler": {source: cost(one, start_ns, end_ns) for source, one in by_source.items()},
    }


def _startup(reported: Mapping[str, Any]) -> dict[str, float | None]:
    parts = {name: reported.get(f"{name}_s") for name in ("interpreter", "import", "load", "warmup")}
    if parts["warmup"] is None:
        parts["warmup"] = (reported.get("warmup") or {}).get("seconds")
    known = [seconds for seconds in parts.values() if seconds is not None]
    return {**parts, "total": sum(known) if len(known) == len(parts) else None}


def _memory(reported: Mapping[str, Any], phases: Mapping[str, int], tables: Tables) -> dict[str, int | None]:
    """Memory of the worker's processes at the phases' ends and its peak; what the engine says of its own."""
    info = reported.get("info") or {}
    host = next((one for one in tables.samples if one.source == "host"), None)
    sampled, own = host_analysis.memory_bytes(host, phases), reported.get("memory_bytes") or {}
    known = {name: [m[name] or 0 for m in (sampled, own) if m.get(name)] for name in sampled}
    largest = {name: max(values) if values else None for name, values in known.items()}
    return {
        **largest,  # the samples count the worker's children, its own account misses no moment
        "weights": info.get("weights_bytes"),
        "kv_cache": info.get("kv_cache_bytes"),
    }
