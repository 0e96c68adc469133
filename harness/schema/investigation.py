"""The document of `innerloop steps`: where the time of a run's steps went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.figure import Figure

VERSION = "2.0"


@dataclass(frozen=True, slots=True)
class SlowStep:
    """One of the slowest steps, and what was in it. Counts are null where the engine does not report them."""

    step: int
    at_s: Annotated[float, Figure("start, from the start of the window", unit="s")]
    wall_s: float
    expected_s: Annotated[float | None, Figure("expected by the fit", unit="s", null="nothing was fitted")]
    bound_s: Annotated[float | None, Figure("roofline bound", unit="s", null="it is unknown")]
    prefill_positions: int | None
    decode_positions: int | None
    output_tokens: int | None
    running: int | None
    waiting: int | None
    preempted: int | None
    context_tokens: float | None
    kv_usage: float | None
    phases_s: Mapping[str, float | None]
    bubble_before_s: float
    bubble_after_s: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Steps with a similar number of running requests."""

    least: Annotated[int, Figure("fewest requests running")]
    most: Annotated[int, Figure("most requests running")]
    steps: int
    median_s: Annotated[float, Figure("of the phase", unit="s")]


@dataclass(frozen=True, slots=True)
class Storm:
    """Preemptions in quick succession."""

    first_step: int
    last_step: int
    at_s: Annotated[float, Figure("start, from the start of the window", unit="s")]
    duration_s: Annotated[float, Figure("of these steps and the time between them", unit="s")]
    preempted: Annotated[int, Figure("requests preempted")]
    kv_usage: Annotated[float | None, Figure("when it began", null="the engine does not report it")]
    share_of_prefill: Annotated[
        float | None,
        Figure("share of all prefill computed in the storm", null="it is unknown, or no prefill was computed"),
    ]


@dataclass(frozen=True, slots=True)
class Preemptions:
    """All preemptions of a run."""

    count: int
    steps: int
    storms: tuple[Storm, ...]
    storm_count: int


@dataclass(frozen=True, slots=True)
class Interference:
    """Inter-token latency of the tokens that waited for a step with prefill, and of the others, in seconds."""

    with_prefill: Summary
    decode_only: Summary
    stalled_share: Annotated[float | None, Figure("share of the tokens that waited for prefill")]
    lost_share: Annotated[
        float | None,
        Figure("share of the time between tokens lost to waiting beyond the median of tokens that did not wait"),
    ]


@dataclass(frozen=True, slots=True)
class Cost:
    """A fitted cost: estimate, standard error and 95 % interval, in seconds."""

    estimate: float
    error: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FittedCosts:
    """Seconds = fixed + sum(cost x what was in the step). No costs where there is a reason."""

    costs: Annotated[Mapping[str, Cost], Figure("`fixed`, and one for each column that could be fitted")]
    r2: Annotated[float | None, Figure("share of the variance explained", null="nothing varies, or see reason")]
    rmse: Annotated[float | None, Figure("root mean square of the residuals", unit="s", null="see reason")]
    rows: Annotated[int, Figure("steps used for the fit")]
    dropped: Annotated[Mapping[str, str], Figure("what could not be fitted, and why")]
    together: Annotated[
        tuple[tuple[str, str, float], ...], Figure("pairs that rise and fall together, with their correlation")
    ]
    reason: Annotated[str | None, Figure("why nothing was fitted", null="a fit was made")]
    misfit: Annotated[
        Literal["negative_cost", "low_r2"] | None,
        Figure(
            "why the line does not describe the steps: a cost's whole interval is negative, or r2 is under 0.3",
            null="the line describes the steps, or nothing was fitted",
        ),
    ]


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """Time of a host phase by number of running requests."""

    fit: FittedCosts
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Investigation:
    """Where the time of a run's steps went."""

    schema_version: str
    innerloop_version: str
    run: str
    engine: str | None
    model: str | None
    workload: str | None
    given: Annotated[Mapping[str, Any], Figure("settings given by the user")]
    label: Annotated[Mapping[str, str], Figure("--label")]
    status: str | None
    steps: int
    duration_s: float | None
    slowest: tuple[SlowStep, ...]
    fit_s: Mapping[str, FittedCosts]
    preemptions: Preemptions | None
    interference_s: Interference | None
    host_s: Mapping[str, PhaseCost]
    kind: Literal["steps"] = "steps"
