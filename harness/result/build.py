"""A run's result: put together from what is known about it, written as result.json, read again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from innerloop.harness import __version__
from innerloop.harness.analysis import client as client_analysis
from innerloop.harness.analysis import devices as device_analysis
from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.run import analyse, edges
from innerloop.harness.cli.errors import Refused
from innerloop.harness.result import roofline as limit
from innerloop.harness.result import suspect_device
from innerloop.harness.result.suspect import Reason, suspicions, unhonoured
from innerloop.harness.store.tables import Tables, convert, put, read_tables
from innerloop.harness.telemetry import host as host_telemetry
from innerloop.harness.telemetry.sampler import cost

if TYPE_CHECKING:
    from innerloop.harness.ceilings.model import Ceilings

__all__ = ["Tables", "build", "convert", "read", "read_tables", "write"]

SCHEMA_VERSION = 1
FILE = "result.json"
PARTS = {  # of every result of this version, without which it cannot be shown
    "innerloop_version", "reasons", "notes", "engine", "startup_s", "warmup", "window", "counts", "throughput",
    "latency_s", "step_s", "step_share", "time_share", "batch", "waiting", "kv_usage", "steady", "over_time",
    "overhead", "memory_bytes", "telemetry", "failure",
}  # fmt: skip


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
        doubts += client_analysis.suspicions(found["client"])
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
        "host": None if host is None else host_telemetry.summary(host, start_ns, end_ns),
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
    sampled, own = host_telemetry.memory_bytes(host, phases), reported.get("memory_bytes") or {}
    known = {name: [m[name] or 0 for m in (sampled, own) if m.get(name)] for name in sampled}
    largest = {name: max(values) if values else None for name, values in known.items()}
    return {
        **largest,  # the samples count the worker's children, its own account misses no moment
        "weights": info.get("weights_bytes"),
        "kv_cache": info.get("kv_cache_bytes"),
    }


def plain(value: Any) -> Any:
    """The same data as JSON's own types; a number that JSON has no word for (NaN, infinity) becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def write(run_folder: Path, result: Mapping[str, Any]) -> Path:
    """Writes result.json whole or not at all, and returns its path."""
    path = Path(run_folder) / FILE
    text = json.dumps(plain(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    partial = path.with_name(f".{FILE}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read(run: Path) -> dict[str, Any]:
    """The result of a run, by its folder or by the file itself.

    Raises:
        Refused: there is none, or it is not one, or a newer innerloop wrote it.
    """
    run = Path(run)
    path = run / FILE if run.is_dir() else run
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(f"there is no {FILE} in {run}" if run.is_dir() else f"there is no file {run}") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from None
    version = result.get("schema_version") if isinstance(result, dict) else None
    if not isinstance(version, int) or "status" not in result or "spec" not in result:
        raise Refused(f"{path} is not a result of innerloop: it has no schema_version, status and spec")
    if version != SCHEMA_VERSION:
        raise Refused(
            f"{path} has schema version {version}, and this innerloop ({__version__}) reads version {SCHEMA_VERSION}",
            "Read it with the innerloop that wrote it"
            + (f" ({result['innerloop_version']})." if result.get("innerloop_version") else "."),
        )
    if lost := PARTS - result.keys():
        raise Refused(f"{path} is not whole: it lacks {', '.join(sorted(lost))}")
    return result
