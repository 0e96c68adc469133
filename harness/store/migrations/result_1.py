"""result.json of the first version (schema_version 1, an integer) as one of version 2.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.harness.store.migrations.rename import renamed
from innerloop.harness.store.versions import Document

THROUGHPUT = {"prefill_tokens_per_s": "prefill_positions_per_s", "decode_tokens_per_s": "output_tokens_per_s"}
STEP = {"floor_s": "bound_s"}
ROOFLINE = {
    **STEP,
    "ceilings": "peaks",
    "limits": "total_peaks",
    "limit_share": "bound_share",
    "output_tokens_per_s_at_limit": "output_tokens_per_s_at_bound",
    "above_limit": "above_bound",
}


def migrate(old: Mapping[str, Any]) -> Document:
    """Version 1 told no severity: what stood against a run then made it suspect, and of which figures is not known."""
    new = renamed(old, {"profile": "profiling"})
    failure = old.get("failure")
    if old["status"] == "failed" and failure is not None and failure["cause"] == "interrupted":
        new["status"] = "interrupted"
    severity = "suspect" if failure is None else "invalid"
    new |= {
        "schema_version": "2.0",
        "kind": "run",
        "id": None,
        "key": None,
        "reasons": [{**reason, "severity": severity, "affects": []} for reason in old["reasons"]],
        "startup_s": renamed(old["startup_s"], {"import": "imports"}),
        "engine": renamed(old["engine"], {"cannot_report": "unreported"}),
        "throughput": renamed(old["throughput"], THROUGHPUT),
        "steady": {**old["steady"], "throughput": _optional(old["steady"]["throughput"], THROUGHPUT)},
    }
    if old.get("roofline") is not None:
        new["roofline"] = _roofline(old["roofline"])
    if old.get("kernels") is not None:
        new["kernels"] = _kernels(old["kernels"])
    return new


def _roofline(old: Mapping[str, Any]) -> Document:
    new = renamed(old, ROOFLINE)
    if old["per_step"] is not None:
        new["per_step"] = {kind: _optional(step, STEP) for kind, step in old["per_step"].items()}
    return new


def _kernels(old: Mapping[str, Any]) -> Document:
    top = {
        kind: [renamed(kernel, {"class": "kernel_class"}) for kernel in kernels] for kind, kernels in old["top"].items()
    }
    return {**old, "top": top}


def _optional(old: Mapping[str, Any] | None, names: Mapping[str, str]) -> Document | None:
    return None if old is None else renamed(old, names)
