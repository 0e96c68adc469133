"""Small groups of figures that several sections share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.quantiles import of_fewer

NO_VALUES = "there are no values"
NO_INTERVAL = "it was not computed, there are too few values, or they change too much over the window for a bound"

Bounds = tuple[float | None, float | None]  # None: no bound on that side


@dataclass(frozen=True, slots=True)
class Summary:
    """One distribution. Quantiles are interpolated linearly between the two nearest values, as by numpy.quantile.

    Where more than 1 % of the durations had not ended (`unfinished`), quantiles and intervals are Kaplan-Meier
    estimates, null where they lie beyond the longest observed.
    """

    mean: Annotated[float | None, Figure("arithmetic mean", null=NO_VALUES)]
    p50: Annotated[float | None, Figure("median", null=NO_VALUES)]
    p90: Annotated[float | None, Figure("90 % of the values are at most this", null=of_fewer("p90"))]
    p95: Annotated[float | None, Figure("95 % of the values are at most this", null=of_fewer("p95"))]
    p99: Annotated[float | None, Figure("99 % of the values are at most this", null=of_fewer("p99"))]
    max: Annotated[float | None, Figure("largest value", null=NO_VALUES)]
    count: Annotated[int, Figure("number of values")]
    p50_ci: Annotated[Bounds | None, Figure("95 % interval of p50, by order statistics", null=NO_INTERVAL)] = None
    p90_ci: Annotated[Bounds | None, Figure("95 % interval of p90", null=NO_INTERVAL)] = None
    p95_ci: Annotated[Bounds | None, Figure("95 % interval of p95", null=NO_INTERVAL)] = None
    p99_ci: Annotated[Bounds | None, Figure("95 % interval of p99", null=NO_INTERVAL)] = None
    unfinished: Annotated[int, Figure("durations that had not ended when the window closed")] = 0


@dataclass(frozen=True, slots=True)
class Level:
    """Something that each step reports, over the time of the steps that report it."""

    mean: Annotated[float | None, Figure("mean, weighted by the steps' wall time", null="no step reports it")]
    max: Annotated[int | float | None, Figure("largest value", null="no step reports it")]


@dataclass(frozen=True, slots=True)
class ByStepKind:
    """A figure of all steps, of those that computed prefill positions and of those that did not."""

    all: Annotated[float | None, Figure("of all steps", null="there are no steps")]
    with_prefill: Annotated[
        float | None, Figure("of the steps with prefill", null="there are no such steps, or their prefill is unknown")
    ]
    decode_only: Annotated[
        float | None, Figure("of the decode-only steps", null="there are no such steps, or their prefill is unknown")
    ]


@dataclass(frozen=True, slots=True)
class CountByStepKind:
    """Number of all steps, of those with prefill and of those without."""

    all: Annotated[int, Figure("all steps")]
    with_prefill: Annotated[int, Figure("steps that computed prefill positions")]
    decode_only: Annotated[int, Figure("steps that computed none")]


@dataclass(frozen=True, slots=True)
class TokenTotals:
    """Lengths of the workload's prompts or outputs."""

    total: Annotated[int, Figure("sum", unit="tokens")]
    min: Annotated[int, Figure("shortest", unit="tokens")]
    mean: Annotated[float, Figure("mean", unit="tokens")]
    max: Annotated[int, Figure("longest", unit="tokens")]
