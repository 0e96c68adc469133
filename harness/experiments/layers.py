"""`--layers`: the same requests at several layers of an engine, and the waterfall of what each one adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from innerloop.harness import __version__
from innerloop.harness.analysis.waterfall import differences, paced_by_load, waterfall
from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.ended import Ended, ended_jobs, last_time, run_of, status
from innerloop.harness.experiments.folder import read_events, read_manifest
from innerloop.harness.profiles.engines import EngineProfile
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.waterfall import VERSION, EngineName, Waterfall
from innerloop.harness.session.recover import UNSAID
from innerloop.harness.spec import preconditions as checks
from innerloop.harness.store.tables import no_tables

PROFILED = "core"  # the layer whose first run a profiling pass follows


def chosen(engine: EngineProfile, layers: str, profiled: bool = False) -> tuple[str, ...]:
    """The layers that `--layers` asks for, innermost first; `profiled`: with a profiling pass, which layer core gets.

    Raises:
        Refused: a layer that the engine does not offer, one named twice, fewer than two, or a pass without layer core.
    """
    names = list(engine.layers) if layers == "all" else [name.strip() for name in layers.split(",") if name.strip()]
    for name in names:
        checks.layer(engine, name, "--layers")
    if len(set(names)) != len(names):
        raise Refused(f"--layers: {layers!r} names a layer twice")
    if len(names) < 2:
        offered = ", ".join(engine.layers)
        why = [f"{name}: {reason}" for name, reason in engine.missing_layers.items()]
        raise Refused(f"--layers needs at least two layers; {engine.name} has these layers: {offered}", *why)
    if profiled and PROFILED not in names:
        raise Refused("--profiler profiles the core layer when --layers is given; add core to --layers")
    return tuple(sorted(names, key=engine.layers.index))


def added_by_layers(folder: Path) -> Waterfall:
    """The waterfall of an experiment's runs so far, each cell a layer and each block a trial.

    Raises:
        Refused: it is no experiment, or what it holds cannot be read.
    """
    manifest, events = read_manifest(folder), read_events(folder)
    jobs = ended_jobs(folder, manifest, events)
    runs = {layer: _in_order(layer, blocks) for layer, blocks in jobs.items()}
    done = [result for blocks in jobs.values() for _, result in blocks.values() if result is not None]
    first = done[0] if done else None
    hashes = sorted({result.workload_hash for result in done if result.workload_hash is not None})
    tokens_per_step, rungs = waterfall(runs)
    return Waterfall(
        schema_version=VERSION,
        innerloop_version=__version__,
        created=last_time(manifest, events),
        status="failed" if len(hashes) > 1 else status(manifest, events, done),
        engine=EngineName(None, None) if first is None else EngineName(first.engine.name, first.engine.version),
        model=None if first is None else first.spec.model,
        dtype=None if first is None else first.dtype,
        device=None if first is None else first.spec.device,
        workload=None if first is None else first.spec.workload,
        workload_hash=hashes[0] if len(hashes) == 1 else None,
        layers=tuple(cell.name for cell in manifest.cells),
        trials=manifest.blocks,
        tokens_per_step=tokens_per_step,
        rungs=tuple(
            replace(rung, runs=tuple(run_of(*job) for job in jobs.get(rung.name, {}).values())) for rung in rungs
        ),
        differences=differences(runs),
        paced_by_load=any(paced_by_load(result) for result in done if result.failure is None),
        client=next((one.client for one in runs.get("http", ()) if one.client is not None), None),
    )


def _in_order(layer: str, blocks: Mapping[int, Ended]) -> list[Result]:
    """A layer's results up to the last block that has one. In the place of a run without a result stands one that says
    why, so that trials stay beside those of the other layers."""
    last = max(blocks, default=0)
    return [_result(layer, blocks.get(block)) for block in range(1, last + 1)]


def _result(layer: str, job: Ended | None) -> Result:
    event, found = job if job is not None else (None, None)
    if found is not None:
        return found
    why = "not run" if event is None else event.reason or event.event
    return build(Record({**UNSAID, "layer": layer}, no_tables(), failure=Failure("harness", why)))
