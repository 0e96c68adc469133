"""How far runs of the same thing differ on a machine: the document of `innerloop noise`, kept for later comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure

VERSION = "2.0"


@dataclass(frozen=True, slots=True)
class FigureNoise:
    """The scatter of one metric, as standard deviations of logarithms: 0.01 is about 1 %."""

    neighbours: Annotated[float, Figure("of the ratio of two runs made back to back")]
    processes: Annotated[float, Figure("of single runs, over all trials")]


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of one engine, layer, model and workload on a machine, from trials of two identical runs."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    created: Annotated[str, Figure("UTC, ISO 8601")]
    machine: Annotated[Mapping[str, Any], Figure("the machine it applies to")]
    load: Annotated[Mapping[str, Any], Figure("the engine, layer, model and workload it applies to")]
    engine_version: Annotated[str | None, Figure("version of the engine that ran", null="the engine reports none")]
    metric: Annotated[str, Figure("the metric whose noise is the margin of comparisons")]
    margin: Annotated[float, Figure("largest relative difference that is ignored")]
    trials: Annotated[int, Figure("number of trials, of two runs each")]
    trial_s: Annotated[float | None, Figure("mean time of a trial", "s", null="the journal has no times")]
    figures: Annotated[Mapping[str, FigureNoise], Figure("noise of each metric, by dotted name")]
    runs: Annotated[tuple[str, ...], Figure("the runs' folders")]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")]
    too_few: Annotated[Mapping[str, str], Figure("quantiles whose noise is unknown, and why, by dotted name")] = field(
        default_factory=dict
    )
    status: Annotated[Literal["ok", "suspect"], Figure("suspect: one of its runs is")] = "ok"
    kind: Annotated[Literal["noise"], Figure("what this document is")] = "noise"
