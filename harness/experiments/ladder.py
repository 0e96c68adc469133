"""The ladder: the same requests at several heights, in fresh processes, and the waterfall of what each one adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.command import Stopped, stop_signals
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_UNDECIDED, InnerloopError, Refused
from innerloop.harness.experiments.document import build
from innerloop.harness.result import build as results
from innerloop.harness.result.exit_code import interrupted as interrupted_run
from innerloop.harness.result.record import Record
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.waterfall import Waterfall
from innerloop.harness.session import run as session
from innerloop.harness.spec import preconditions as checks
from innerloop.harness.store import result_file, run_folder
from innerloop.harness.store.tables import convert
from innerloop.harness.store.waterfall_file import write

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiles.engines import EngineProfile
    from innerloop.harness.session.options import Options
    from innerloop.harness.spec.model import RunSpec

MOST_TRIALS = 100
Runs = dict[str, list[Result]]  # results by layer, in the order of the trials


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
    trials = 1 if trials is None else trials
    if not 1 <= trials <= MOST_TRIALS:
        raise Refused(f"--trials: {trials} is not a whole number from 1 to {MOST_TRIALS}")
    names = list(engine.layers) if layers == "all" else [name.strip() for name in layers.split(",") if name.strip()]
    for name in names:
        checks.layer(engine, name, "--layers")
    if len(set(names)) != len(names):
        raise Refused(f"--layers: {layers!r} names a layer twice")
    if len(names) < 2:
        offered = ", ".join(engine.layers)
        why = [f"{name}: {reason}" for name, reason in engine.missing_layers.items()]
        raise Refused(f"--layers needs at least two layers; {engine.name} has: {offered}", *why)
    if profiled and "core" not in names:
        raise Refused("--profiler profiles layer core; add core to --layers")
    return Ladder(tuple(sorted(names, key=engine.layers.index)), trials)


def run(
    ladder: Ladder, spec_of: Callable[[str], RunSpec], machine: Machine, options: Options, console: Console
) -> tuple[Waterfall, Path]:
    """Runs every trial of every layer, in `order`; returns the waterfall and the folder, where it also lies.

    A layer that fails does not stop the others; an interruption does, and what was done until then is kept. Every run
    has a folder of its own in the ladder's: core-1, engine-1, ..., core-2, ...

    Raises:
        Refused: nothing was started.
    """
    specs = {layer: spec_of(layer) for layer in ladder.layers}
    folder = run_folder.make_folder(options.out, options.numbered)
    runs: Runs = {layer: [] for layer in ladder.layers}
    plan = order(ladder)
    document, interrupted = build(ladder.layers, ladder.trials, runs), False
    with stop_signals():
        try:
            for k, (layer, trial) in enumerate(plan):
                console.rule(f"{layer}, trial {trial} of {ladder.trials} ({k + 1} of {len(plan)})", style="dim")
                own = replace(options, out=folder / f"{layer}-{trial}", numbered=False)
                if layer != "core" or trial > 1:
                    own = replace(own, profile=None)
                result = one(specs[layer], machine, own, console, first=k == 0)
                runs[layer].append(result)
                document = build(ladder.layers, ladder.trials, runs)
                write(folder, document)
                run_folder.release(folder)
                if interrupted_run(result):
                    interrupted = True
                    break
        except Stopped:
            interrupted = True
        except Refused:
            run_folder.release(folder)
            raise
    if interrupted:
        document = replace(document, status="interrupted")
        write(folder, document)
        run_folder.release(folder)
    return document, folder


def order(ladder: Ladder) -> list[tuple[str, int]]:
    """(layer, trial) of every run: up the ladder and down again, so that a machine that slowly gets faster or slower
    does so for all layers alike."""
    return [
        (layer, trial)
        for trial in range(1, ladder.trials + 1)
        for layer in (ladder.layers if trial % 2 else ladder.layers[::-1])
    ]


def one(spec: RunSpec, machine: Machine, options: Options, console: Console, first: bool) -> Result:
    """One run. A refusal stops the first one; later it is that rung's failure, and the others go on."""
    try:
        return session.run(spec, machine, options, console)[0]
    except InnerloopError as error:
        if first:
            raise
        options.out.mkdir(parents=True, exist_ok=True)
        record = Record(spec.describe(), convert(options.out), failure=Failure("harness", str(error)))
        result = results.build(record)
        result_file.write(options.out, result)
        return result


def exit_code(document: Waterfall, strict: bool = False) -> int:
    """`strict`: where a run is suspect, that has a code of its own."""
    if document.status == "interrupted":
        return EXIT_INTERRUPTED
    if document.status not in ("ok", "suspect"):
        return EXIT_FAILED
    return EXIT_UNDECIDED if strict and document.status == "suspect" else EXIT_OK


def default_folder(spec: RunSpec) -> Path:
    path = run_folder.default_folder(spec.engine.name, spec.model.name, spec.workload.name, labels=spec.label.values())
    return path.with_name(f"{path.name}-layers")
