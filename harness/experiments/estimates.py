"""How long a grid takes at least: what its windows last, and what loads and warm-ups took in earlier runs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from innerloop.harness.checkpoints import planned_checkpoint
from innerloop.harness.cli.words import size
from innerloop.harness.experiments.blocks import block_of
from innerloop.harness.schema.experiment import Cell, Event
from innerloop.harness.schema.sweep_plan import PlannedCell, PlanOfSweep
from innerloop.harness.session.expected import Expected, earlier_runs, expected
from innerloop.harness.session.plan import planned_environment, why_not_here

if TYPE_CHECKING:
    from innerloop.harness.experiments.grid import Grid
    from innerloop.harness.machine import Machine
    from innerloop.harness.spec.model import RunSpec

SHOWN = 3  # cells that are named


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
    earlier = earlier_runs()
    times = {name: expected(grid.specs[name], earlier) for name in left}
    planned = tuple(_planned(cell, left, times, reasons) for cell in manifest.cells)
    total = sum((one.minutes or 0.0) * 60 for one in planned) + sum(times[name].load_s or 0.0 for name in loads)
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
        basis=tuple(_basis({name: grid.specs[name] for name in left}, times)) if left else (),
        warnings=tuple(dict.fromkeys(line for name in left for line in grid.specs[name].workload.warnings())),
    )


def _planned(
    cell: Cell, left: Mapping[str, int], times: Mapping[str, Expected], reasons: Mapping[str, str | None]
) -> PlannedCell:
    if cell.refused is not None:
        return PlannedCell(cell.name, cell.at, "refused", cell.refused, 0, None)
    if reasons[cell.name] is not None:
        return PlannedCell(cell.name, cell.at, "not here", reasons[cell.name], 0, None)
    runs = left.get(cell.name, 0)
    if not runs:
        return PlannedCell(cell.name, cell.at, "done", None, 0, 0.0)
    known = [part for part in (times[cell.name].warmup_s, times[cell.name].window_s) if part is not None]
    return PlannedCell(cell.name, cell.at, "run", None, runs, round(runs * sum(known) / 60, 2) if known else None)


def _basis(specs: Mapping[str, RunSpec], times: Mapping[str, Expected]) -> Iterator[str]:
    """Where the minutes are from, and what is not in them. specs, times: of the cells that are left."""
    yield "windows last as long as their workloads specify, or as in earlier runs here; loads and warm-ups as in those"
    for what, name in {"loads": "load_s", "warm-ups": "warmup_s", "windows": "window_s"}.items():
        unknown = [cell for cell, time in times.items() if getattr(time, name) is None]
        if unknown:
            yield f"not counted, because no earlier run here had them: {what} of {_some(unknown, len(times))}"
    environments = {
        one["path"] for spec in specs.values() if (one := planned_environment(spec))["lock"] and not one["exists"]
    }
    checkpoints = [
        planned_checkpoint(spec.model, spec.settings.dtype) for spec in specs.values() if spec.weights is None
    ]
    missing = {one["path"]: one["bytes"] for one in checkpoints if not one["exists"]}
    made = [f"{len(environments)} environments"] if environments else []
    made += [f"checkpoints of {size(sum(missing.values()))}"] if missing else []
    if made:
        yield f"not counted: {' and '.join(made)} to be created; the environments' download size is unknown"


def _some(names: Sequence[str], of: int) -> str:
    if len(names) == of:
        return "all cells"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
