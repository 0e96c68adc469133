"""How long a grid takes: what its windows last, and what warm-ups and loads are known or assumed to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.checkpoints import planned_checkpoint
from innerloop.harness.experiments.blocks import block_of
from innerloop.harness.schema.experiment import Cell, Event
from innerloop.harness.schema.sweep_plan import PlannedCell, PlanOfSweep
from innerloop.harness.session.plan import planned_environment, why_not_here

if TYPE_CHECKING:
    from innerloop.harness.experiments.grid import Grid
    from innerloop.harness.machine import Machine
    from innerloop.harness.spec.model import RunSpec

WARMUP_S = 20.0  # of a window, at most what its workload allows
UNKNOWN_S = 30.0  # of a window that ends when its requests have
LOAD_S = 30.0  # of an engine, besides its weights
LOAD_BYTES_PER_S = 1e9
MAKE_BYTES_PER_S = 2e8  # a synthetic checkpoint, once
MAKE_ENVIRONMENT_S = 300.0


def plan_of(grid: Grid, done: Sequence[Event], machine: Machine, budget_s: float | None) -> PlanOfSweep:
    """The plan of what is left; nothing is written."""
    manifest = grid.manifest
    finished = {event.job for event in done}
    left: dict[str, int] = {}
    loads: list[str] = []  # a cell of each process
    cells = {cell.name: cell for cell in manifest.cells}
    reasons = {name: why_not_here(spec, machine) for name, spec in grid.specs.items()}
    for block in range(1, manifest.blocks + 1):
        seen: set[str] = set()
        for job in block_of(manifest, block):
            if job.name in finished or reasons[job.cell] is not None:
                continue
            left[job.cell] = left.get(job.cell, 0) + 1
            process = cells[job.cell].process or job.cell
            if process not in seen:
                seen.add(process)
                loads.append(job.cell)
    planned = tuple(_planned(cell, grid, left, reasons) for cell in manifest.cells)
    total = sum((one.minutes or 0.0) * 60 for one in planned)
    total += sum(load_s(grid.specs[name]) for name in loads) + once_s([grid.specs[name] for name in left])
    unknown = [one.name for one in planned if one.runs_left and window_s(grid.specs[one.name]) is None]
    suite = manifest.options.get("suite") or {}
    return PlanOfSweep(
        name=suite.get("name"),
        title=suite.get("title") or None,
        trials=manifest.blocks,
        cells=planned,
        runs=sum(left.values()),
        reused=len(finished),
        loads=len(loads),
        minutes=round(total / 60, 1),
        budget_minutes=None if budget_s is None else budget_s / 60,
        basis=(
            f"windows last as long as their workloads specify, and warm-ups {WARMUP_S:g} s",
            f"each load takes {LOAD_S:g} s plus 1 s per GB of weights; "
            "missing environments and checkpoints are created",
            *([f"windows without a fixed duration are assumed to take {UNKNOWN_S:g} s"] if unknown else []),
        ),
        warnings=tuple(dict.fromkeys(line for name in left for line in grid.specs[name].workload.warnings())),
    )


def _planned(cell: Cell, grid: Grid, left: dict[str, int], reasons: dict[str, str | None]) -> PlannedCell:
    if cell.refused is not None:
        return PlannedCell(cell.name, cell.at, "refused", cell.refused, 0, None)
    if reasons[cell.name] is not None:
        return PlannedCell(cell.name, cell.at, "not here", reasons[cell.name], 0, None)
    runs = left.get(cell.name, 0)
    spec = grid.specs[cell.name]
    each = (window_s(spec) or UNKNOWN_S) + min(WARMUP_S, spec.workload.warmup.max_s)
    return PlannedCell(cell.name, cell.at, "run" if runs else "done", None, runs, round(runs * each / 60, 2))


def window_s(spec: RunSpec) -> float | None:
    """How long a window lasts by its workload; None where it ends when its requests have."""
    load = spec.workload.load
    known: float | None = getattr(load, "duration_s", None)
    rate, requests = getattr(load, "rate_per_s", None), getattr(load, "requests", None)
    return float(requests / rate) if known is None and rate and requests else known


def load_s(spec: RunSpec) -> float:
    return LOAD_S + (spec.model.weights_bytes(spec.settings.dtype) or 0) / LOAD_BYTES_PER_S


def once_s(specs: Sequence[RunSpec]) -> float:
    """Making the environments and checkpoints that are not there yet."""
    total = 0.0
    environments: set[str] = set()
    checkpoints: set[str] = set()
    for spec in specs:
        environment = planned_environment(spec)
        if environment["lock"] and not environment["exists"] and environment["path"] not in environments:
            environments.add(environment["path"])
            total += MAKE_ENVIRONMENT_S
        if spec.weights is None:
            checkpoint = planned_checkpoint(spec.model, spec.settings.dtype)
            if not checkpoint["exists"] and checkpoint["path"] not in checkpoints:
                checkpoints.add(str(Path(checkpoint["path"])))
                total += checkpoint["bytes"] / MAKE_BYTES_PER_S
    return total
