"""`--trials` and `--windows`: the same thing in several processes, and what its figures are over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from innerloop.harness import __version__
from innerloop.harness.analysis.statistics import LEAST_BLOCKS
from innerloop.harness.analysis.trials import half_width, processes_for, spread
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import share
from innerloop.harness.experiments.ended import Ended, ended_jobs, last_time, run_of, status
from innerloop.harness.experiments.folder import failed_jobs, read_events, read_manifest
from innerloop.harness.experiments.stopping import precise
from innerloop.harness.experiments.why import estimate
from innerloop.harness.result.figures import FIGURES, Compared, too_few, value_of, values_of
from innerloop.harness.result.reasons import makes_suspect
from innerloop.harness.schema.experiment import Event, Manifest
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.trials import VERSION, Load, TrialFigure, Trials
from innerloop.harness.schema.waterfall import EngineName

Jobs = Mapping[str, Mapping[int, Ended]]  # by cell and block
PRECISE = 0.01  # the half width for which the processes are counted where none was asked for


def measured(folder: Path) -> Trials:
    """What an experiment's runs so far say: cells with the same key are windows of the same load.

    Raises:
        Refused: it is no experiment, no run of it came to its end, or a result cannot be read.
    """
    manifest, events = read_manifest(folder), read_events(folder)
    jobs = ended_jobs(folder, manifest, events)
    results = [result for blocks in jobs.values() for _, result in blocks.values() if result is not None]
    first = next((result for result in results if result.failure is None), None)
    if first is None:
        raise Refused(
            f"no run of {folder} has finished yet", f"innerloop resume {quote(str(folder))} finishes the experiment"
        )
    loads = [load for cells in same_cells(manifest) if (load := _load(manifest, jobs, cells)) is not None]
    reached = None if manifest.until is None else precise(manifest, events)
    return Trials(
        schema_version=VERSION,
        innerloop_version=__version__,
        created=last_time(manifest, events),
        status=status(manifest, events, results),
        engine=EngineName(first.engine.name, first.engine.version),
        model=first.spec.model,
        dtype=first.dtype,
        layer=first.spec.layer,
        device=first.spec.device,
        metric=manifest.options["metric"],
        trials=manifest.blocks,
        until=manifest.until,
        reached=reached,
        load_s=_load_times(jobs),
        loads=tuple(loads),
        notes=tuple(_notes(manifest, events, loads, reached)),
    )


def same_cells(manifest: Manifest) -> list[list[str]]:
    """The cells, together with those that measure the same."""
    found: dict[str, list[str]] = {}
    for cell in manifest.cells:
        found.setdefault(cell.key, []).append(cell.name)
    return list(found.values())


def _load(manifest: Manifest, jobs: Jobs, cells: Sequence[str]) -> Load | None:
    """One load, measured in these cells; None where none of its runs came to its end."""
    ended = [job for block in range(1, manifest.blocks + 1) for cell in cells if (job := jobs[cell].get(block))]
    good = [result for _, result in ended if result is not None and result.failure is None]
    if not good:
        return None
    rows = [
        [result for _, result in row if result is not None and result.failure is None]
        for block in range(1, manifest.blocks + 1)
        if len(row := [jobs[cell][block] for cell in cells if block in jobs[cell]]) == len(cells)
    ]
    whole = [row for row in rows if len(row) == len(cells)]
    figures, missing, lacking = _figures(whole, manifest)
    hashes = {result.workload_hash for result in good}
    return Load(
        workload=good[0].spec.workload,
        workload_hash=good[0].workload_hash if len(hashes) == 1 else None,
        processes=len(whole),
        windows=len(cells),
        figures=figures,
        missing=missing,
        runs=tuple(run_of(*job) for job in ended),
        needed=_needed(whole, manifest),
        too_few=lacking,
    )


def _figures(
    processes: Sequence[Sequence[Result]], manifest: Manifest
) -> tuple[tuple[TrialFigure, ...], tuple[str, ...], Mapping[str, str]]:
    """Every figure that all runs have, the metric first, the names of those that only some have, and why quantiles are
    unknown."""
    metric = manifest.options["metric"]
    spoilt = {
        kind
        for results in processes
        for result in results
        for reason in result.reasons
        if makes_suspect(reason)
        for kind in reason.affects
    }
    found: list[TrialFigure] = []
    missing: list[str] = []
    lacking: dict[str, str] = {}
    behind = {"": [values_of(result) for results in processes for result in results]}
    for one in sorted(FIGURES, key=lambda one: one.name != metric):
        values = _values(processes, one.name)
        if values is not None:
            found.append(_figure(one, values, manifest, bool({one.kind, "comparison"} & spoilt)))
        elif (reason := too_few(one.name, behind)) is not None:
            lacking[one.name] = reason
        elif any(value_of(result, one.name) for results in processes for result in results):
            missing.append(one.name)
    return tuple(found), tuple(missing), lacking


def _values(processes: Sequence[Sequence[Result]], name: str) -> np.ndarray | None:
    """A figure of every run, float64 [processes, windows]; None where one lacks it or is not above 0."""
    rows = [[value_of(result, name) for result in results] for results in processes]
    if not rows or not all(value is not None and value > 0 for row in rows for value in row):
        return None
    return np.array(rows, dtype=np.float64)


def _figure(one: Compared, values: np.ndarray, manifest: Manifest, doubtful: bool) -> TrialFigure:
    found = spread(values, None if manifest.until is None else manifest.blocks)
    return TrialFigure(
        name=one.name,
        unit=one.unit,
        better=one.better,
        mean=estimate(found.mean),
        low=found.low,
        high=found.high,
        half_width=half_width(found.mean),
        scatter=found.scatter,
        window_scatter=found.window_scatter,
        processes_differ=found.differ,
        doubtful=doubtful,
    )


def _needed(processes: Sequence[Sequence[Result]], manifest: Manifest) -> int | None:
    values = _values(processes, manifest.options["metric"])
    return None if values is None else processes_for(values.mean(axis=1), manifest.until or PRECISE)


def _load_times(jobs: Jobs) -> tuple[float | None, ...]:
    """How long each process took to load, in the order of the blocks."""
    blocks = sorted({block for cell in jobs.values() for block in cell})
    found = [
        next((cell[block][1] for cell in jobs.values() if block in cell and cell[block][1]), None) for block in blocks
    ]
    return tuple(None if result is None else result.startup_s.load for result in found)


def _notes(manifest: Manifest, events: Sequence[Event], loads: Sequence[Load], reached: bool | None) -> Iterator[str]:
    if any(load.processes < LEAST_BLOCKS for load in loads):
        yield f"fewer than {LEAST_BLOCKS} trials: how much they vary is unknown, so there are no intervals"
    if reached is False and all(load.processes >= manifest.blocks for load in loads):
        worst = max((load for load in loads if load.needed), key=lambda load: load.needed or 0, default=None)
        if worst is not None and manifest.until is not None:
            yield (
                f"±{share(manifest.until)} was not reached in {manifest.blocks} trials: "
                f"{manifest.options['metric']} of {worst.workload} varies by {share(worst.figures[0].scatter)} "
                f"between trials; about {worst.needed} trials would be enough"
            )
    for load in loads:
        differing = [one.name for one in load.figures if one.processes_differ]
        if differing:
            yield (
                f"{load.workload}: trials differ more than windows within a trial, so run more trials, not more "
                f"windows ({', '.join(differing)})"
            )
    yield from (f"{event.job} failed: {event.reason}" for event in failed_jobs(events))
