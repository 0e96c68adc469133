"""A grid of runs: its cells, what each was measured to do, and which ones are better than others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.figure import Figure

VERSION = "1.0"
CellState = Literal["done", "suspect", "failed", "refused", "to come"]
ONE = "fewer than three processes"


@dataclass(frozen=True, slots=True)
class Quoted:
    """What a source says about a cell."""

    figure: Annotated[Literal["output_tokens_per_s", "ttft"], Figure("which figure was published")]
    words: Annotated[str, Figure("as the source has it")]
    low: Annotated[float | None, Figure("in the metric's unit", null="the source has no number")]
    high: Annotated[float | None, Figure("in the metric's unit", null="the source has no number")]


@dataclass(frozen=True, slots=True)
class SweepCell:
    """One point of the grid."""

    name: Annotated[str, Figure("what is varied, in words")]
    at: Annotated[Mapping[str, Any], Figure("its value on each axis")]
    state: Annotated[CellState, Figure("suspect: one of its runs is; to come: trials are left")]
    reasons: Annotated[tuple[str, ...], Figure("why runs failed or were refused")]
    processes: Annotated[int, Figure("trials that finished")]
    runs: Annotated[
        tuple[str, ...], Figure("folders; relative ones are in the experiment's, others come from earlier runs")
    ]
    figures: Annotated[Mapping[str, Estimate], Figure("means over the processes, by dotted name")]
    devices: Annotated[int, Figure("devices that a run uses")]
    substituted: Annotated[
        str | None, Figure("part of the engine that was replaced, so that it is not ranked", null="nothing was")
    ]
    tokens_per_s_per_device: Annotated[
        Estimate | None,
        Figure("throughput", "tokens/s", "output tokens/s / devices", "no trial finished", "higher"),
    ]
    interactivity: Annotated[
        Estimate | None,
        Figure("output rate per user", "tokens/s", "1 / mean ITL", "no request got a second token", "higher"),
    ]
    dominated_by: Annotated[
        tuple[str, ...], Figure("cells with the same work that are better in both at 95 %: their intervals lie above")
    ]
    frontier: Annotated[
        bool | None, Figure("no ranked cell has better means in both", null="it has no figures, or is not ranked")
    ]
    energy_j_per_token: Annotated[
        Estimate | None,
        Figure("of the devices, or of the CPU if there are none", "J/token", null="not measured", better="lower"),
    ]
    published: Annotated[tuple[Quoted, ...], Figure("what the suite's source says about it")]
    suspect: Annotated[int, Figure("how many of its runs are suspect")] = 0
    dominators: Annotated[int, Figure("how many cells dominate it; `dominated_by` has the first ten")] = 0
    doubts: Annotated[Mapping[str, int], Figure("how many of its runs have each reason to doubt them, by code")] = (
        field(default_factory=dict)
    )
    too_few: Annotated[Mapping[str, str], Figure("quantiles that too few values support, and why, by dotted name")] = (
        field(default_factory=dict)
    )


@dataclass(frozen=True, slots=True)
class AtInteractivity:
    """Throughput per device at a fixed interactivity, between measured cells only."""

    interactivity: Annotated[float, Figure("output tokens/s per user", "tokens/s")]
    state: Annotated[
        Literal["between", "unreachable", "not measured"],
        Figure("unreachable: no cell was that fast per user; not measured: all cells were faster"),
    ]
    tokens_per_s_per_device: Annotated[Estimate | None, Figure("by linear interpolation", "tokens/s", null="see state")]


@dataclass(frozen=True, slots=True)
class Curve:
    """Cells that differ in their load alone, by interactivity."""

    at: Annotated[Mapping[str, Any], Figure("what they have in common")]
    cells: Annotated[tuple[str, ...], Figure("names of its cells, by load")]
    levels: tuple[AtInteractivity, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """The document of a grid."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    created: Annotated[str, Figure("when the last run ended, UTC in ISO 8601")]
    status: Annotated[
        Literal["ok", "suspect", "failed", "partial", "interrupted"],
        Figure("how it ended; suspect: one of its runs is"),
    ]
    name: Annotated[str | None, Figure("of the suite", null="no suite was named")]
    title: Annotated[str | None, Figure("what it is about", null="it has no title")]
    axes: Annotated[tuple[str, ...], Figure("what differs between the cells")]
    trials: Annotated[int, Figure("trials of each cell")]
    metric: Annotated[str, Figure("the metric that decides")]
    machine: Annotated[Mapping[str, Any], Figure("where it was measured")]
    counts: Annotated[Mapping[str, int], Figure("cells by state")]
    boots: Annotated[int, Figure("boots of the machine that the runs span")]
    nodes: Annotated[Mapping[str, int], Figure("runs by machine of a cluster, each with a hash of its description")]
    reused: Annotated[int, Figure("existing runs that were reused")]
    cells: tuple[SweepCell, ...]
    curves: tuple[Curve, ...]
    published: Annotated[
        Mapping[str, Any] | None, Figure("the suite's source and how it measured", null="the suite has none")
    ]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")]
    kind: Annotated[Literal["sweep"], Figure("what this document is")] = "sweep"
