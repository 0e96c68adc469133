"""The document of a grid, from its manifest and journal alone: no result is opened."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.harness import __version__
from innerloop.harness.analysis import pareto
from innerloop.harness.analysis.distributions import t_quantile
from innerloop.harness.analysis.pareto import Box
from innerloop.harness.analysis.statistics import CONFIDENCE, LEAST_BLOCKS, Interval
from innerloop.harness.experiments.axes import matches
from innerloop.harness.experiments.blocks import ENDED, Job, latest
from innerloop.harness.experiments.comparison import estimate
from innerloop.harness.experiments.folder import RUNS, read_events, read_manifest
from innerloop.harness.result.figures import FIGURES, PRIMARY, too_few
from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.experiment import Cell, Event, Manifest
from innerloop.harness.schema.sweep import VERSION, AtInteractivity, CellState, Curve, Quoted, Sweep, SweepCell

PER_USER = "throughput.tokens_per_s_per_user"
ENERGY = ("telemetry.energy_j.devices.per_token", "telemetry.energy_j.cpu.per_token")
LOAD = ("workload", "workload_arg.load.")  # axes along which a curve runs
NOTHING = Interval(None, None, None, 0)


def swept(folder: Path) -> Sweep:
    """What a grid's runs so far say.

    Raises:
        Refused: it is no experiment, or what it holds cannot be read.
    """
    return sweep_of(read_manifest(folder), read_events(folder))


def sweep_of(manifest: Manifest, events: Sequence[Event]) -> Sweep:
    """The document. It is made in a time that grows with the number of jobs, so that it may be made often."""
    newest = latest(events)
    jobs = {cell.name: _jobs(manifest, cell, newest) for cell in manifest.cells}
    means = {cell.name: _means(jobs[cell.name]) for cell in manifest.cells}
    boxes = {cell.name: _box(cell, means[cell.name]) for cell in manifest.cells}
    ranked = _ranked(manifest, boxes)
    beaten: dict[str, tuple[tuple[str, ...], int]] = {}
    leading: set[str] = set()
    for group in ranked.values():
        beaten |= pareto.dominated(group)
        leading |= pareto.frontier(group)
    suite = manifest.options.get("suite") or {}
    quoted = (suite.get("published") or {}).get("figures", [])
    names = {name for group in ranked.values() for name in group}
    cells = tuple(
        SweepCell(
            name=cell.name,
            at=cell.at,
            state=_state(manifest, cell, jobs[cell.name]),
            reasons=tuple(dict.fromkeys(filter(None, [cell.refused, *(one.reason for one in jobs[cell.name])]))),
            processes=_count(means[cell.name]),
            runs=tuple(one.run or f"{RUNS}/{one.job}" for one in jobs[cell.name] if one.event != "refused"),
            figures={name: estimate(found) for name, found in means[cell.name].items()},
            devices=cell.devices,
            substituted=cell.substituted,
            tokens_per_s_per_device=_estimate(boxes[cell.name].y),
            interactivity=_estimate(boxes[cell.name].x),
            dominated_by=beaten.get(cell.name, ((), 0))[0],
            dominators=beaten.get(cell.name, ((), 0))[1],
            frontier=cell.name in leading if cell.name in names else None,
            energy_j_per_token=_estimate(_energy(means[cell.name])),
            published=tuple(_quoted(one) for one in quoted if matches(cell.at, one["at"])),
            suspect=sum(one.status == "suspect" for one in jobs[cell.name]),
            doubts=dict(Counter(code for one in jobs[cell.name] for code in one.doubts)),
            too_few=_too_few(jobs[cell.name], means[cell.name]),
        )
        for cell in manifest.cells
    )
    known = [one for found in jobs.values() for one in found]
    boots = {one.boot for one in known}
    return Sweep(
        schema_version=VERSION,
        innerloop_version=__version__,
        created=events[-1].time if events else manifest.created,
        status=_status(cells, newest),
        name=suite.get("name"),
        title=suite.get("title") or None,
        axes=tuple(dict.fromkeys(path for cell in manifest.cells for path in cell.at)),
        trials=manifest.blocks,
        metric=manifest.options.get("metric", PRIMARY),
        machine=manifest.machine,
        counts=dict(Counter(cell.state for cell in cells)),
        boots=max(len(boots), 1),
        nodes=dict(Counter(one.node for one in known if one.node is not None)),
        reused=sum(one.run is not None for one in known),
        cells=cells,
        curves=tuple(_curves(manifest, boxes, suite.get("interactivity") or [])),
        published={k: v for k, v in suite["published"].items() if k != "figures"} if suite.get("published") else None,
        notes=tuple(_notes(manifest, cells, known)),
    )


def _jobs(manifest: Manifest, cell: Cell, newest: Mapping[str, Event]) -> list[Event]:
    """The jobs of a cell that have ended, in the order of the blocks."""
    names = (Job(cell.name, block).name for block in range(1, manifest.blocks + 1))
    return [event for name in names if (event := newest.get(name)) is not None and event.event in ENDED]


def _means(jobs: Sequence[Event]) -> dict[str, Interval]:
    """Every figure that all processes of a cell have, over them, as `mean_of_processes` for all figures at once."""
    done = [event.figures for event in jobs if event.event == "done"]
    names = [one.name for one in FIGURES if done and all(figures.get(one.name) is not None for figures in done)]
    if not names:
        return {}
    values = np.array([[figures[name] for name in names] for figures in done], dtype=np.float64)
    n, means = len(done), values.mean(axis=0)
    if n < LEAST_BLOCKS:
        return {name: Interval(float(mean), None, None, n) for name, mean in zip(names, means, strict=True)}
    reach = t_quantile((1 + CONFIDENCE) / 2, n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
    lows = np.maximum(means - reach, 0.0)
    rows = zip(names, means.tolist(), lows.tolist(), (means + reach).tolist(), strict=True)
    return {name: Interval(mean, low, high, n) for name, mean, low, high in rows}


def _too_few(jobs: Sequence[Event], means: Mapping[str, Interval]) -> dict[str, str]:
    """Why quantiles are unknown."""
    behind = {"": [event.values for event in jobs if event.event == "done"]}
    names = [one.name for one in FIGURES if one.name not in means]
    return {name: reason for name in names if (reason := too_few(name, behind)) is not None}


def _count(means: Mapping[str, Interval]) -> int:
    return max((one.count for one in means.values()), default=0)


def _box(cell: Cell, means: Mapping[str, Interval]) -> Box:
    return Box(means.get(PER_USER, NOTHING), _divided(means.get(PRIMARY, NOTHING), cell.devices))


def _energy(means: Mapping[str, Interval]) -> Interval:
    return next((means[name] for name in ENERGY if name in means), NOTHING)


def _divided(found: Interval, by: int) -> Interval:
    low, mean, high = (None if one is None else one / by for one in (found.low, found.estimate, found.high))
    return Interval(mean, low, high, found.count)


def _estimate(found: Interval) -> Estimate | None:
    return None if found.estimate is None else estimate(found)


def _ranked(manifest: Manifest, boxes: Mapping[str, Box]) -> dict[str | None, dict[str, Box]]:
    """The boxes of cells that may be ranked, by what they compute."""
    found: dict[str | None, dict[str, Box]] = {}
    for cell in manifest.cells:
        box = boxes[cell.name]
        if cell.substituted is None and box.x.estimate is not None and box.y.estimate is not None:
            found.setdefault(cell.work, {})[cell.name] = box
    return found


def _state(manifest: Manifest, cell: Cell, jobs: Sequence[Event]) -> CellState:
    states = {event.event for event in jobs}
    if cell.refused is not None or "refused" in states:
        return "refused"
    if "failed" in states:
        return "failed"
    if len(jobs) < manifest.blocks:
        return "to come"
    return "suspect" if any(event.status == "suspect" for event in jobs) else "done"


def _status(cells: Sequence[SweepCell], newest: Mapping[str, Event]) -> Any:
    """A refused cell is a row and nothing against the whole, unless all are."""
    states = {cell.state for cell in cells}
    if any(event.event == "interrupted" for event in newest.values()):
        return "interrupted"
    for state, status in (("failed", "failed"), ("to come", "partial"), ("suspect", "suspect")):
        if state in states:
            return status
    return "ok" if states != {"refused"} else "failed"


def _quoted(one: Mapping[str, Any]) -> Quoted:
    return Quoted(one["figure"], one["words"], one.get("low"), one.get("high"))


def _curves(manifest: Manifest, boxes: Mapping[str, Box], asked: Sequence[float]) -> Iterator[Curve]:
    """The cells that differ in their load alone, where there are two or more of them."""
    groups: dict[str, list[Cell]] = {}
    for cell in manifest.cells:
        if boxes[cell.name].x.estimate is not None:
            rest = {path: value for path, value in cell.at.items() if not path.startswith(LOAD)}
            groups.setdefault(json.dumps([cell.work, cell.substituted, rest], sort_keys=True), []).append(cell)
    found = [cells for cells in groups.values() if len(cells) > 1]
    by_work: dict[str | None, list[list[Cell]]] = {}
    for cells in found:
        by_work.setdefault(cells[0].work, []).append(cells)
    for curves in by_work.values():
        drawn = [[boxes[cell.name] for cell in cells] for cells in curves]
        places = list(asked) or pareto.levels(drawn)
        for cells, curve in zip(curves, drawn, strict=True):
            levels = [pareto.at(curve, place) for place in places]
            yield Curve(
                at=common(cells),
                cells=tuple(cell.name for cell in cells),
                levels=tuple(
                    AtInteractivity(one.x, one.state, None if one.y is None else estimate(one.y)) for one in levels
                ),
            )


def common(cells: Sequence[Cell]) -> Mapping[str, object]:
    """The values that all of the cells have."""
    first = cells[0].at
    return {path: value for path, value in first.items() if all(cell.at.get(path) == value for cell in cells)}


def _notes(manifest: Manifest, cells: Sequence[SweepCell], known: Sequence[Event]) -> Iterator[str]:
    boots, nodes = {one.boot for one in known}, {one.node for one in known if one.node is not None}
    if manifest.blocks < LEAST_BLOCKS:
        yield (
            f"fewer than {LEAST_BLOCKS} trials per cell: how much they vary is unknown, so there are no intervals and "
            f"no cell dominates another; --trials {LEAST_BLOCKS} would be enough"
        )
    if len(nodes) > 1:
        kinds = len({node.rpartition(" ")[2] for node in nodes})
        alike = "identical nodes" if kinds == 1 else f"nodes of {kinds} kinds"
        yield (
            f"trials were run on {len(nodes)} {alike}: intervals across trials include differences between nodes; only "
            "cells of the same trial were measured on the same node"
        )
    elif len(boots) > 1:
        yield f"the machine was rebooted between runs ({len(boots)} boots)"
    replaced: dict[str, list[str]] = {}
    for cell in cells:
        if cell.substituted is not None:
            replaced.setdefault(cell.substituted, []).append(cell.name)
    for why, names in replaced.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"not ranked, because a part of the engine was replaced: {names[0]}{more} ({why})"
