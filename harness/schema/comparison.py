"""Two sides compared on the same requests: the document of `innerloop compare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure

VERSION = "2.0"
MarginSource = Literal["given", "noise", "default"]
Verdict = Literal["better", "worse", "same", "undecided"]
ONE_PROCESS = "there are fewer than three trials"
UNREPORTED = "an engine does not report it"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval."""

    value: Annotated[float | None, Figure("the estimate", null="it cannot be computed from these runs")]
    low: Annotated[float | None, Figure("lower end of the 95 % interval", null=ONE_PROCESS)]
    high: Annotated[float | None, Figure("upper end of the 95 % interval", null=ONE_PROCESS)]


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason to doubt a side."""

    run: Annotated[str, Figure("the folder")]
    code: Annotated[str, Figure("the reason's code")]
    detail: Annotated[str, Figure("what was observed")]


@dataclass(frozen=True, slots=True)
class Side:
    """A or B."""

    runs: Annotated[tuple[str, ...], Figure("folders of its runs, one per trial")]
    status: Annotated[Literal["ok", "suspect"], Figure("suspect if one of its runs is")]
    doubts: Annotated[tuple[Doubt, ...], Figure("why its runs are suspect")]
    engine: Annotated[str, Figure("engine and version")]
    model: Annotated[str, Figure("the model's profile, or its path")]
    workload: Annotated[str, Figure("the workload's profile, or its path")]
    label: Annotated[Mapping[str, str], Figure("--label")]
    verified: Annotated[
        bool | None, Figure("its output was checked and matches the model", null="none of its runs was checked")
    ] = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that differs between the sides."""

    name: Annotated[str, Figure("dotted name, as in the result")]
    a: Annotated[Any, Figure("its value on side A")]
    b: Annotated[Any, Figure("its value on side B")]


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """One metric of A and of B."""

    name: Annotated[str, Figure("dotted name, as in the result")]
    unit: Annotated[str | None, Figure("the unit of its values", null="it is a ratio")]
    better: Annotated[Literal["higher", "lower"], Figure("which direction is better")]
    a: Annotated[Estimate, Figure("mean over the trials")]
    b: Annotated[Estimate, Figure("mean over the trials")]
    ratio: Annotated[Estimate, Figure("B's figure divided by A's", formula="exp of the mean over trials of log(b / a)")]
    verdict: Annotated[Verdict, Figure("verdict on B: where the ratio's interval lies relative to 1 ± margin")]
    leaning: Annotated[
        Literal["better", "worse"] | None, Figure("direction if undecided", null="the interval contains 1")
    ]
    p: Annotated[
        float | None,
        Figure(
            "how often chance alone would show a difference this large (p-value), Holm-adjusted",
            null=f"{ONE_PROCESS}, or --until",
        ),
    ]
    smallest_visible: Annotated[
        float | None, Figure("relative difference that these trials detect with 80 % power", null=ONE_PROCESS)
    ]
    doubtful: Annotated[bool, Figure("a run is suspect in a way that affects this kind of figure")]
    reason: Annotated[
        str | None, Figure("why it is unknown: a quantile of too few values", null="its values are known")
    ] = None


@dataclass(frozen=True, slots=True)
class ChangedSteps:
    """Steps of one composition."""

    prefill_positions: Annotated[
        float | None, Figure("prefill positions of such a step, in the middle of its class", null=UNREPORTED)
    ]
    decode_positions: Annotated[float | None, Figure("decode positions of such a step, likewise", null=UNREPORTED)]
    context_tokens: Annotated[
        float | None, Figure("context tokens of such a step, likewise", "tokens", null=UNREPORTED)
    ]
    steps_per_token_a: Annotated[float, Figure("how many such steps A ran per output token")]
    steps_per_token_b: Annotated[float, Figure("how many such steps B ran per output token")]
    cost_a_s: Annotated[float | None, Figure("mean time of one such step", "s", null="A has no such steps")]
    cost_b_s: Annotated[float | None, Figure("mean time of one such step", "s", null="B has no such steps")]
    added_s: Annotated[float, Figure("contribution to B - A, per output token", "s")]


@dataclass(frozen=True, slots=True)
class KernelWhy:
    """The same of the steps that profiling passes captured on both sides, in seconds per output token of theirs, under
    the profiler. mix + cost + unmatched = difference."""

    steps_a: Annotated[int, Figure("captured steps of A")]
    steps_b: Annotated[int, Figure("captured steps of B")]
    a_s: Annotated[Estimate, Figure("A's time in captured steps", "s")]
    b_s: Annotated[Estimate, Figure("B's", "s")]
    difference_s: Annotated[Estimate, Figure("B - A", "s")]
    mix_s: Annotated[Estimate, Figure("the part of the difference that is due to different captured steps", "s")]
    cost_s: Annotated[
        Estimate, Figure("the part of the difference that is due to the same steps taking more or less time", "s")
    ]
    unmatched_s: Annotated[
        Estimate, Figure("steps that only one side had and whose cost on the other cannot be estimated", "s")
    ]
    cost_by_class_s: Annotated[
        Mapping[str, Estimate],
        Figure("`cost_s` by kernel class; rest: time in which no kernel ran, less overlaps", "s"),
    ]
    matched_share: Annotated[
        float | None, Figure("share of both sides' time in steps that both had", null="there is no such time")
    ]
    scatter: Annotated[
        Literal["processes", "steps"] | None,
        Figure(
            "variation that the intervals cover: between processes, or only between steps",
            null="there are no intervals",
        ),
    ]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Where the difference comes from: step time per output token, in seconds. mix + cost + unmatched = difference."""

    a_s: Annotated[Estimate, Figure("A's time in and between steps", "s")]
    b_s: Annotated[Estimate, Figure("B's time in and between steps", "s")]
    difference_s: Annotated[Estimate, Figure("B - A", "s")]
    mix_s: Annotated[Estimate, Figure("the part of the difference that is due to different steps", "s")]
    cost_s: Annotated[
        Estimate, Figure("the part of the difference that is due to the same steps taking more or less time", "s")
    ]
    unmatched_s: Annotated[
        Estimate,
        Figure("steps that only one side ran and whose cost on the other cannot be estimated", "s"),
    ]
    cost_by_phase_s: Annotated[Mapping[str, Estimate], Figure("`cost_s` by phase", "s")]
    cost_by_coefficient_s: Annotated[Mapping[str, Estimate], Figure("`cost_s` by composition of the steps", "s")]
    matched_share: Annotated[
        float | None, Figure("share of both sides' time in steps that both ran", null="there is no such time")
    ]
    scatter: Annotated[
        Literal["processes", "steps"] | None,
        Figure(
            "variation that the intervals cover: between runs, or only between steps",
            null="there are no intervals",
        ),
    ]
    changed: tuple[ChangedSteps, ...]
    kernels: Annotated[
        KernelWhy | None,
        Figure("by kernel class", null="no trial has a pass of `--profiler kernels` or nsys on both sides"),
    ] = None
    mix_by_coefficient_s: Annotated[
        Mapping[str, Estimate] | None,
        Figure(
            "`mix_s` by composition of the steps; rest: what that does not explain",
            "s",
            null="no line describes both sides' steps",
        ),
    ] = None
    modelled_share: Annotated[
        float | None,
        Figure(
            "share of both sides' time in steps that only one side ran and whose cost on the other is estimated",
            null="there is no such time",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    a: Side
    b: Side
    differences: Annotated[tuple[Difference, ...], Figure("what differs")]
    waived: Annotated[tuple[str, ...], Figure("reasons to refuse the comparison that an option waived")]
    trials: Annotated[int, Figure("number of trials; each runs A and B one after the other")]
    margin: Annotated[float, Figure("relative differences up to this are ignored")]
    metric: Annotated[str, Figure("the primary metric, listed first in figures")]
    figures: tuple[ComparedFigure, ...]
    missing: Annotated[tuple[str, ...], Figure("metrics that a side lacks, or that are not above 0")]
    why: Annotated[Decomposition | None, Figure("where the difference comes from", null="see why_not")]
    why_not: Annotated[str | None, Figure("why `why` is null", null="`why` is not null")]
    notes: Annotated[tuple[str, ...], Figure("what else is worth knowing, a sentence each")]
    margin_source: Annotated[
        MarginSource, Figure("given: by the command; noise: measured by `innerloop noise` on this machine")
    ] = "default"
    trials_needed: Annotated[
        int | None, Figure("trials needed for an interval of ±1 % of the metric at this scatter", null=ONE_PROCESS)
    ] = None
    kind: Annotated[Literal["comparison"], Figure("what this document is")] = "comparison"
