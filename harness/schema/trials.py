"""What several processes that ran the same thing say together: the document of `run --trials` and `--windows`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.waterfall import EngineName, LayerRun

VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class TrialFigure:
    """One figure over the processes. A process with several windows of the same load counts with their mean."""

    name: Annotated[str, Figure("dotted, as in the result")]
    unit: str
    better: Literal["higher", "lower"]
    mean: Annotated[Estimate, Figure("over the processes; with `until` the interval holds although it was looked at")]
    low: Annotated[float, Figure("of the processes")]
    high: Annotated[float, Figure("of the processes")]
    half_width: Annotated[
        float | None, Figure("of the interval", formula="(high - low) / 2 / mean", null="fewer than three processes")
    ]
    scatter: Annotated[
        float | None, Figure("standard deviation of the processes / mean", null="fewer than two processes")
    ]
    window_scatter: Annotated[
        float | None, Figure("the same of the windows of one process", null="one window of this load a process")
    ]
    processes_differ: Annotated[
        bool | None,
        Figure(
            "processes scatter more than their windows explain (one-way analysis of variance, 5 %)",
            null="fewer than three processes, or one window each",
        ),
    ]
    doubtful: Annotated[bool, Figure("a reason against one of the runs affects figures of this kind")]


@dataclass(frozen=True, slots=True)
class Load:
    """One thing that was measured."""

    workload: str
    workload_hash: Annotated[str | None, Figure("of all token ids, lengths and due times", null="unlike, or unknown")]
    processes: Annotated[int, Figure("in which all of its windows came to their end")]
    windows: Annotated[int, Figure("of this load in each process")]
    figures: tuple[TrialFigure, ...]
    missing: Annotated[tuple[str, ...], Figure("figures that some of the runs lack, or that are not above 0")]
    runs: Annotated[tuple[LayerRun, ...], Figure("in the order of the blocks")]
    needed: Annotated[
        int | None,
        Figure("processes for the half width of `until`, else of 1 %, at this scatter", null="fewer than three"),
    ]


@dataclass(frozen=True, slots=True)
class Trials:
    """Several processes of the same thing."""

    schema_version: str
    innerloop_version: str
    created: Annotated[str, Figure("when the last run ended, UTC in ISO 8601")]
    status: Literal["ok", "suspect", "failed", "partial", "interrupted"]
    engine: EngineName
    model: str | None
    dtype: str | None
    layer: str | None
    device: str | None
    metric: Annotated[str, Figure("the figure that is asked about, the first of each load")]
    trials: Annotated[int, Figure("processes that were asked for; with `until` at most")]
    until: Annotated[float | None, Figure("half width at which it was to stop", null="after all trials")]
    reached: Annotated[bool | None, Figure("that half width was reached", null="none was asked for")]
    load_s: Annotated[tuple[float | None, ...], Figure("load time of each process, once for all its windows", "s")]
    loads: tuple[Load, ...]
    notes: tuple[str, ...]
    kind: Annotated[Literal["trials"], Figure("what this document is")] = "trials"
