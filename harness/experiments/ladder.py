"""The ladder: the same requests at several heights, in fresh processes, and the waterfall of what each one adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness import __version__
from innerloop.harness.analysis.waterfall import differences, paced_by_load, waterfall
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, InnerloopError, Refused
from innerloop.harness.store.waterfall_file import SCHEMA_VERSION, write

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiles.engines import EngineProfile
    from innerloop.harness.session.run import Options
    from innerloop.harness.spec.resolve import RunSpec

MOST_TRIALS = 100
Runs = dict[str, list[dict[str, Any]]]  # results by layer, in the order of the trials


@dataclass(frozen=True, slots=True)
class Ladder:
    """What was asked for: layers, innermost first, and how many trials of each."""

    layers: tuple[str, ...]
    trials: int


def chosen(engine: EngineProfile, layers: str, trials: int | None, profiled: bool = False) -> Ladder:
    """The ladder that `--layers` and `--trials` ask for; `profiled`: with a profiling pass, which layer core gets.

    Raises:
        Refused: a layer that the engine does not offer, one named twice, fewer than two, a senseless number, or a pass
            without layer core.
    """
    from innerloop.harness.spec import preconditions as checks

    trials = 1 if trials is None else trials
    if not 1 <= trials <= MOST_TRIALS:
        raise Refused(f"--trials: must be 1 to {MOST_TRIALS}, not {trials}")
    names = list(engine.layers) if layers == "all" else [name.strip() for name in layers.split(",") if name.strip()]
    for name in names:
        checks.layer(engine, name)
    if len(set(names)) != len(names):
        raise Refused(f"--layers: a layer is named twice in {layers!r}")
    if len(names) < 2:
        offered = ", ".join(engine.layers)
        why = [f"{name}: {reason}" for name, reason in engine.missing_layers.items()]
        raise Refused(f"--layers needs two layers or more to compare; {engine.name} has: {offered}", *why)
    if profiled and "core" not in names:
        raise Refused("--profile: with --layers the pass is made on layer core, which is not among them")
    return Ladder(tuple(sorted(names, key=engine.layers.index)), trials)


def run(
    ladder: Ladder, spec_of: Callable[[str], RunSpec], machine: Machine, options: Options, console: Console
) -> tuple[dict[str, Any], Path]:
    """Runs every trial of every layer, in `order`; returns the waterfall and the folder, where it also lies.

    A layer that fails does not stop the others; an interruption does, and what was done until then is kept. Every run
    has a folder of its own in the ladder's: core-1, engine-1, ..., core-2, ...

    Raises:
        Refused: nothing was started.
    """
    from innerloop.harness.cli.command import Stopped, stop_signals
    from innerloop.harness.store.run_folder import make_folder, remove_empty

    specs = {layer: spec_of(layer) for layer in ladder.layers}
    folder = make_folder(options.out)
    runs: Runs = {layer: [] for layer in ladder.layers}
    plan = order(ladder)
    document, interrupted = build(ladder, runs), False
    with stop_signals():
        try:
            for k, (layer, trial) in enumerate(plan):
                console.rule(f"{layer}, trial {trial} of {ladder.trials} ({k + 1} of {len(plan)})", style="dim")
                own = replace(options, out=folder / f"{layer}-{trial}")
                if layer != "core" or trial > 1:
                    own = replace(own, profile=None)
                result = one(specs[layer], machine, own, console, first=k == 0)
                runs[layer].append(result)
                document = build(ladder, runs)
                write(folder, document)
                if stopped(result):
                    interrupted = True
                    break
        except Stopped:
            interrupted = True
        except Refused:
            remove_empty(folder)
            raise
    if interrupted:
        document = {**document, "status": "interrupted"}
        write(folder, document)
    return document, folder


def order(ladder: Ladder) -> list[tuple[str, int]]:
    """(layer, trial) of every run: up the ladder and down again, so that a machine that slowly gets faster or slower
    does so for all layers alike."""
    return [
        (layer, trial)
        for trial in range(1, ladder.trials + 1)
        for layer in (ladder.layers if trial % 2 else ladder.layers[::-1])
    ]


def one(spec: RunSpec, machine: Machine, options: Options, console: Console, first: bool) -> dict[str, Any]:
    """One run. A refusal stops the first one; later it is that rung's failure, and the others go on."""
    from innerloop.harness.process.launcher import failure
    from innerloop.harness.result import build as results
    from innerloop.harness.session import run as session
    from innerloop.harness.store import result_file
    from innerloop.harness.store.tables import convert

    try:
        return session.run(spec, machine, options, console)[0]
    except InnerloopError as error:
        if first:
            raise
        options.out.mkdir(parents=True, exist_ok=True)
        result = results.build(
            spec=spec.describe(),
            workload=None,
            workload_hash=None,
            tables=convert(options.out),
            failure=failure("harness", str(error)),
        )
        result_file.write(options.out, result)
        return result


def stopped(result: Mapping[str, Any]) -> bool:
    """Whether a run, or the profiling pass after it, was interrupted."""
    failures = (result["failure"], (result.get("profile") or {}).get("failure"))
    return any(failure is not None and failure["cause"] == "interrupted" for failure in failures)


def build(ladder: Ladder, runs: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The waterfall document of the runs so far."""
    done = [result for results in runs.values() for result in results]
    first: dict[str, Any] = done[0] if done else {}
    spec, engine = first.get("spec") or {}, first.get("engine") or {}
    hashes = sorted({result["workload_hash"] for result in done if result["workload_hash"] is not None})
    found = waterfall(runs)
    missing = sum(ladder.trials - len(results) for results in runs.values())
    for rung in found["rungs"]:
        rung["runs"] = [
            {
                "folder": f"{rung['name']}-{trial}",
                "status": result["status"],
                "reasons": [{"code": reason["code"], "detail": reason["detail"]} for reason in result["reasons"]],
                "output_tokens_per_s": result["throughput"]["decode_tokens_per_s"],
            }
            for trial, result in enumerate(runs.get(rung["name"], ()), 1)
        ]
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "waterfall",
        "innerloop_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "status": status(done, missing, hashes),
        "engine": {"name": spec.get("engine"), "version": engine.get("version")},
        "model": spec.get("model"),
        "dtype": (engine.get("effective") or {}).get("dtype") or (spec.get("settings") or {}).get("dtype"),
        "device": spec.get("device"),
        "workload": spec.get("workload"),
        "workload_hash": hashes[0] if len(hashes) == 1 else None,
        "layers": list(ladder.layers),
        "trials": ladder.trials,
        **found,
        "differences": differences(runs),
        "paced_by_load": any(paced_by_load(result) for result in done if result["failure"] is None),
        "client": next((r["client"] for r in runs.get("http", ()) if r.get("client") is not None), None),
    }


def status(done: list[dict[str, Any]], missing: int, hashes: list[str]) -> str:
    """ok, suspect (a run is), failed (a run is, or they were not given the same requests) or partial (not all ran)."""
    states = {result["status"] for result in done}
    if "failed" in states or len(hashes) > 1:
        return "failed"
    if missing:
        return "partial"
    return "suspect" if "suspect" in states else "ok"


def exit_code(document: Mapping[str, Any]) -> int:
    if document["status"] == "interrupted":
        return EXIT_INTERRUPTED
    return EXIT_OK if document["status"] in ("ok", "suspect") else EXIT_FAILED


def default_folder(spec: RunSpec) -> Path:
    from innerloop.harness.store.run_folder import default_folder as for_run

    path = for_run(spec)
    return path.with_name(f"{path.name}-layers")
