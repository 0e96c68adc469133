"""The document of a run of several layers: what each one adds, from the results of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Literal

from innerloop.harness import __version__
from innerloop.harness.analysis.waterfall import Runs, differences, paced_by_load, waterfall
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.waterfall import VERSION, EngineName, LayerRun, RunReason, Waterfall


def build(layers: Sequence[str], trials: int, runs: Runs) -> Waterfall:
    """The waterfall of the results so far, by layer, in the order of the trials."""
    done = [result for results in runs.values() for result in results]
    first = done[0] if done else None
    hashes = sorted({result.workload_hash for result in done if result.workload_hash is not None})
    tokens_per_step, rungs = waterfall(runs)
    missing = sum(trials - len(results) for results in runs.values())
    return Waterfall(
        schema_version=VERSION,
        innerloop_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        status=status(done, missing, hashes),
        engine=EngineName(None, None) if first is None else EngineName(first.engine.name, first.engine.version),
        model=None if first is None else first.spec.model,
        dtype=None if first is None else first.dtype,
        device=None if first is None else first.spec.device,
        workload=None if first is None else first.spec.workload,
        workload_hash=hashes[0] if len(hashes) == 1 else None,
        layers=tuple(layers),
        trials=trials,
        tokens_per_step=tokens_per_step,
        rungs=tuple(replace(rung, runs=layer_runs(rung.name, runs.get(rung.name, ()))) for rung in rungs),
        differences=differences(runs),
        paced_by_load=any(paced_by_load(result) for result in done if result.failure is None),
        client=next((result.client for result in runs.get("http", ()) if result.client is not None), None),
    )


def layer_runs(layer: str, results: Sequence[Result]) -> tuple[LayerRun, ...]:
    """The runs of a layer, in the order of the trials."""
    return tuple(
        LayerRun(
            folder=f"{layer}-{trial}",
            status=result.status,
            reasons=tuple(RunReason(reason.code, reason.detail) for reason in result.reasons),
            output_tokens_per_s=result.throughput.output_tokens_per_s,
        )
        for trial, result in enumerate(results, 1)
    )


def status(
    done: Sequence[Result], missing: int, hashes: Sequence[str]
) -> Literal["ok", "suspect", "failed", "partial"]:
    """ok, suspect (a run is), failed (a run is, or they were not given the same requests) or partial (not all ran)."""
    states = {result.status for result in done}
    if states & {"failed", "interrupted"} or len(hashes) > 1:
        return "failed"
    if missing:
        return "partial"
    return "suspect" if "suspect" in states else "ok"
