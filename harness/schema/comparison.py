"""What is said of two sides that were measured on the same requests: the document of `innerloop compare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure

VERSION = "1.1"
MarginSource = Literal["given", "noise", "default"]
Verdict = Literal["better", "worse", "same", "undecided"]
ONE_PROCESS = "fewer than three processes a side"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the bounds of its 95 % interval."""

    value: float | None
    low: Annotated[float | None, Figure("lower bound", null=ONE_PROCESS)]
    high: Annotated[float | None, Figure("upper bound", null=ONE_PROCESS)]


@dataclass(frozen=True, slots=True)
class Doubt:
    """One thing that is known against a side."""

    run: Annotated[str, Figure("the folder")]
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Side:
    """A or B."""

    runs: Annotated[tuple[str, ...], Figure("their folders, one a block")]
    status: Annotated[Literal["ok", "suspect"], Figure("suspect: one of its runs is")]
    doubts: Annotated[tuple[Doubt, ...], Figure("what makes them suspect")]
    engine: Annotated[str, Figure("with its version")]
    model: str
    workload: str
    label: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that was not alike on both sides."""

    name: Annotated[str, Figure("dotted, as in the result")]
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """One figure of A and of B."""

    name: Annotated[str, Figure("dotted, as in the result")]
    unit: str | None
    better: Literal["higher", "lower"]
    a: Annotated[Estimate, Figure("mean over the blocks")]
    b: Annotated[Estimate, Figure("mean over the blocks")]
    ratio: Annotated[Estimate, Figure("B / A", formula="exp of the mean over blocks of log(b / a)")]
    verdict: Annotated[Verdict, Figure("of B: by where the ratio's interval lies to 1 +- margin")]
    leaning: Annotated[Literal["better", "worse"] | None, Figure("where undecided", null="the interval holds 1")]
    p: Annotated[float | None, Figure("of such ratios without a difference; Holm's", null=ONE_PROCESS)]
    smallest_visible: Annotated[
        float | None, Figure("relative difference that these blocks show with 80 % power", null=ONE_PROCESS)
    ]
    doubtful: Annotated[bool, Figure("a side's doubts concern this figure")]


@dataclass(frozen=True, slots=True)
class ChangedSteps:
    """Steps of one composition."""

    prefill_positions: float
    decode_positions: float
    context_tokens: float
    steps_per_token_a: float
    steps_per_token_b: float
    cost_a_s: Annotated[float | None, Figure("mean time of one", "s", null="A has none")]
    cost_b_s: Annotated[float | None, Figure("mean time of one", "s", null="B has none")]
    added_s: Annotated[float, Figure("to B - A, for an output token", "s")]


@dataclass(frozen=True, slots=True)
class Why:
    """Where the difference is: step time for an output token, in seconds. mix + cost + unmatched = difference."""

    a_s: Annotated[Estimate, Figure("A's time in steps and in the gaps between them", "s")]
    b_s: Annotated[Estimate, Figure("B's", "s")]
    difference_s: Annotated[Estimate, Figure("B - A", "s")]
    mix_s: Annotated[Estimate, Figure("because other steps came", "s")]
    cost_s: Annotated[Estimate, Figure("because like steps took another time", "s")]
    unmatched_s: Annotated[Estimate, Figure("steps that only one side had: not comparable", "s")]
    cost_by_phase_s: Annotated[Mapping[str, Estimate], Figure("`cost_s` by phase", "s")]
    cost_by_coefficient_s: Annotated[Mapping[str, Estimate], Figure("`cost_s` by what it grows with", "s")]
    matched_share: Annotated[float, Figure("of both sides' time, in steps that both had")]
    scatter: Annotated[
        Literal["processes", "steps"] | None,
        Figure("what the intervals hold; steps: how processes differ is not in them", null="there are no intervals"),
    ]
    changed: tuple[ChangedSteps, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A."""

    schema_version: str
    innerloop_version: str
    a: Side
    b: Side
    differences: Annotated[tuple[Difference, ...], Figure("what was not alike")]
    waived: Annotated[tuple[str, ...], Figure("what would have been refused without an option that asked for it")]
    blocks: Annotated[int, Figure("in which A and B were measured next to each other")]
    margin: Annotated[float, Figure("relative difference that counts as none")]
    metric: Annotated[str, Figure("the figure that is asked about, the first below")]
    figures: tuple[ComparedFigure, ...]
    missing: Annotated[tuple[str, ...], Figure("figures that one side lacks or that are not above 0")]
    why: Annotated[Why | None, Figure("where the difference is", null="see why_not")]
    why_not: Annotated[str | None, Figure("why it is not known", null="it is known")]
    notes: tuple[str, ...]
    margin_source: Annotated[
        MarginSource, Figure("given: by the command; noise: measured by `innerloop noise` on this machine")
    ] = "default"
    blocks_needed: Annotated[
        int | None, Figure("blocks that an interval of +-1 % of the metric takes at this scatter", null=ONE_PROCESS)
    ] = None
    kind: Annotated[Literal["comparison"], Figure("what this document is")] = "comparison"
