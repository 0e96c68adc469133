"""What a grid would run: `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One point. state: "run"; "done": all its runs were made before; "refused": it can be run nowhere so; "not here":
    this machine lacks something. reason: of the last two. minutes: of all its windows and warm-ups that are left, at
    least, without loads; None where nothing says how long they take."""

    name: str
    at: Mapping[str, Any]
    state: Literal["run", "done", "refused", "not here"]
    reason: str | None
    runs_left: int
    minutes: float | None


@dataclass(frozen=True, slots=True)
class PlanOfSweep:
    """loads: how often an engine is loaded. minutes: at least, of all windows, warm-ups and loads of which it
    is known, as `basis` says. warnings: of what windows will say little."""

    name: str | None
    title: str | None
    trials: int
    cells: tuple[PlannedCell, ...]
    runs: int
    reused: int
    loads: int
    minutes: float
    budget_minutes: float | None
    basis: tuple[str, ...]
    warnings: tuple[str, ...] = ()
