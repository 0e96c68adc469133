"""The combined metrics of several trials of the same thing: the document of `run --trials` and `--windows`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.waterfall import EngineName, LayerRun

VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class TrialFigure:
    """One metric over the trials. A trial with several windows of the same workload counts with their mean."""

    name: Annotated[str, Figure("dotted, as in the result")]
    unit: Annotated[str, Figure("the unit of its values")]
    better: Annotated[Literal["higher", "lower"], Figure("which direction is better")]
    mean: Annotated[Estimate, Figure("over the trials; with `until`, corrected for checking it after each trial")]
    low: Annotated[float, Figure("lowest trial")]
    high: Annotated[float, Figure("highest trial")]
    half_width: Annotated[
        float | None,
        Figure(
            "half-width of the 95 % interval / mean",
            formula="(high - low) / 2 / mean",
            null="there are fewer than three trials",
        ),
    ]
    scatter: Annotated[
        float | None, Figure("standard deviation of the trials / mean", null="there are fewer than two trials")
    ]
    window_scatter: Annotated[
        float | None,
        Figure("standard deviation / mean of the windows within a trial", null="one window of this workload per trial"),
    ]
    processes_differ: Annotated[
        bool | None,
        Figure(
            "trials scatter more than their windows explain (one-way analysis of variance, 5 %)",
            null="there are fewer than three trials, or one window in each",
        ),
    ]
    doubtful: Annotated[bool, Figure("a run is suspect in a way that affects this kind of figure")]


@dataclass(frozen=True, slots=True)
class Load:
    """One workload that was measured."""

    workload: Annotated[str, Figure("the workload's profile, or its path")]
    workload_hash: Annotated[
        str | None, Figure("of all token ids, lengths and due times", null="the runs' hashes differ, or are unknown")
    ]
    processes: Annotated[int, Figure("trials that finished all of their windows")]
    windows: Annotated[int, Figure("windows of this workload in each trial")]
    figures: tuple[TrialFigure, ...]
    missing: Annotated[tuple[str, ...], Figure("metrics that some of the runs lack, or that are not above 0")]
    runs: Annotated[tuple[LayerRun, ...], Figure("in the order of the trials")]
    needed: Annotated[
        int | None,
        Figure(
            "trials needed for the half-width of `until` (else ±1 %) at this scatter",
            null="there are fewer than three trials",
        ),
    ]
    too_few: Annotated[Mapping[str, str], Figure("quantiles that too few values support, and why, by dotted name")] = (
        field(default_factory=dict)
    )


@dataclass(frozen=True, slots=True)
class Trials:
    """Several trials of the same thing."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    created: Annotated[str, Figure("when the last run ended, UTC in ISO 8601")]
    status: Annotated[
        Literal["ok", "suspect", "failed", "partial", "interrupted"],
        Figure("how it ended; suspect: one of its runs is"),
    ]
    engine: EngineName
    model: Annotated[str | None, Figure("the model's profile, or its path", null="no run has ended yet")]
    dtype: Annotated[
        str | None, Figure("number format of the activations", null="it is unknown, or the runs have several")
    ]
    layer: Annotated[
        str | None, Figure("the entry point that was driven: core, engine, async or http", null="the runs have several")
    ]
    device: Annotated[str | None, Figure("cpu or cuda", null="it is unknown")]
    metric: Annotated[str, Figure("the primary metric, first in each list of figures")]
    trials: Annotated[int, Figure("trials requested; with `until`, the maximum")]
    until: Annotated[float | None, Figure("half-width at which to stop", null="it stops after all trials")]
    reached: Annotated[bool | None, Figure("the half-width was reached", null="no half-width was requested")]
    load_s: Annotated[
        tuple[float | None, ...], Figure("engine load time of each trial; its windows share one load", "s")
    ]
    loads: tuple[Load, ...]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")]
    kind: Annotated[Literal["trials"], Figure("what this document is")] = "trials"
