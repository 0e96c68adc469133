"""What a grid would run, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from innerloop.harness.cli.words import NONE, counted, number
from innerloop.harness.report.sweep import word
from innerloop.harness.report.tables import table
from innerloop.harness.schema.sweep_plan import PlanOfSweep

if TYPE_CHECKING:
    from rich.console import Console


def print_plan(plan: PlanOfSweep, console: Console) -> None:
    """One line a cell, then what all of it takes."""
    if plan.title:
        console.print(f"{plan.name}: {plan.title}", style="bold")
    rows = table("cell", "", "runs left", "minutes", left=2)
    rows.columns[0].no_wrap, rows.columns[0].overflow = False, "fold"
    for cell in plan.cells:
        minutes = NONE if cell.minutes is None else number(cell.minutes)
        rows.add_row(cell.name, word(cell.state), str(cell.runs_left), minutes, style=None if cell.runs_left else "dim")
    console.print(rows)
    why: dict[str, list[str]] = {}
    for cell in plan.cells:
        if cell.reason is not None:
            why.setdefault(f"{word(cell.state)}: {cell.reason}", []).append(cell.name)
    for reason, names in why.items():
        console.print(f"{reason}\n  {', '.join(names)}", style="dim", highlight=False)
    trials = "1 process" if plan.trials == 1 else f"{plan.trials} processes"
    console.print(
        f"{counted(len(plan.cells), 'cell')}, {trials} each: {counted(plan.runs, 'run')} left, {plan.reused} reused"
    )
    budget = (
        "" if plan.budget_minutes is None else f"; no new process starts after {number(plan.budget_minutes)} minutes"
    )
    console.print(f"{plan.loads} engine loads, at least {number(plan.minutes)} minutes in total{budget}")
    for line in plan.basis:
        console.print(f"  {line}", style="dim")
    for line in plan.warnings:
        console.print(f"! {line}", style="yellow", highlight=False)
