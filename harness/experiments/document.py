"""The document of a run of several layers: what each one adds, from the results of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from innerloop.harness import __version__
from innerloop.harness.analysis.waterfall import differences, paced_by_load, waterfall
from innerloop.harness.schema.result import Result
from innerloop.harness.store.typed import document
from innerloop.harness.store.waterfall_file import SCHEMA_VERSION


def build(layers: Sequence[str], trials: int, runs: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """The waterfall document of the results so far, by layer, in the order of the trials."""
    done = [result for results in runs.values() for result in results]
    first = done[0] if done else None
    hashes = sorted({result.workload_hash for result in done if result.workload_hash is not None})
    plain = {layer: [document(result) for result in results] for layer, results in runs.items()}
    found = waterfall(plain)
    missing = sum(trials - len(results) for results in runs.values())
    for rung in found["rungs"]:
        rung["runs"] = [
            {
                "folder": f"{rung['name']}-{trial}",
                "status": result.status,
                "reasons": [{"code": reason.code, "detail": reason.detail} for reason in result.reasons],
                "output_tokens_per_s": result.throughput.output_tokens_per_s,
            }
            for trial, result in enumerate(runs.get(rung["name"], ()), 1)
        ]
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "waterfall",
        "innerloop_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "status": status(done, missing, hashes),
        "engine": {"name": first and first.engine.name, "version": first and first.engine.version},
        "model": first and first.spec.model,
        "dtype": first and first.dtype,
        "device": first and first.spec.device,
        "workload": first and first.spec.workload,
        "workload_hash": hashes[0] if len(hashes) == 1 else None,
        "layers": list(layers),
        "trials": trials,
        **found,
        "differences": differences(plain),
        "paced_by_load": any(paced_by_load(one) for ones in plain.values() for one in ones if one["failure"] is None),
        "client": next((one["client"] for one in plain.get("http", ()) if one["client"] is not None), None),
    }


def status(done: list[Result], missing: int, hashes: list[str]) -> str:
    """ok, suspect (a run is), failed (a run is, or they were not given the same requests) or partial (not all ran)."""
    states = {result.status for result in done}
    if states & {"failed", "interrupted"} or len(hashes) > 1:
        return "failed"
    if missing:
        return "partial"
    return "suspect" if "suspect" in states else "ok"
