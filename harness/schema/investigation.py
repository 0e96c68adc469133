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

    step: Annotated[int, Figure("its number, from 0")]
    at_s: Annotated[float, Figure("start, from the start of the window", unit="s")]
    wall_s: Annotated[float, Figure("end less start", "s")]
    expected_s: Annotated[float | None, Figure("predicted by the fit", unit="s", null="nothing was fitted")]
    bound_s: Annotated[float | None, Figure("roofline bound", unit="s", null="it is unknown")]
    prefill_positions: Annotated[
        int | None, Figure("prompt positions that it computed", null="the engine does not report it")
    ]
    decode_positions: Annotated[
        int | None, Figure("decode positions that it computed", null="the engine does not report it")
    ]
    output_tokens: Annotated[int | None, Figure("tokens produced", null="the engine does not report it")]
    running: Annotated[int | None, Figure("requests in its batch", null="the engine does not report it")]
    waiting: Annotated[int | None, Figure("requests that waited", null="the engine does not report it")]
    preempted: Annotated[int | None, Figure("requests that were preempted", null="the engine does not report it")]
    context_tokens: Annotated[
        float | None,
        Figure("tokens in the KV cache that it read", "tokens", null="the engine does not report positions"),
    ]
    kv_usage: Annotated[
        float | None, Figure("share of the KV cache in use, 0 to 1", null="the engine does not report it")
    ]
    phases_s: Annotated[Mapping[str, float | None], Figure("duration by phase; null: not reported", "s")]
    bubble_before_s: Annotated[float, Figure("time before it, while there was work", "s")]
    bubble_after_s: Annotated[float, Figure("time after it, while there was work", "s")]


@dataclass(frozen=True, slots=True)
class Bin:
    """Steps with a similar number of running requests."""

    least: Annotated[int, Figure("fewest requests running")]
    most: Annotated[int, Figure("most requests running")]
    steps: Annotated[int, Figure("steps in the bin")]
    median_s: Annotated[float, Figure("of the phase", unit="s")]


@dataclass(frozen=True, slots=True)
class Storm:
    """Preemptions in quick succession."""

    first_step: Annotated[int, Figure("number of its first step with a preemption")]
    last_step: Annotated[int, Figure("number of its last one")]
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

    count: Annotated[int, Figure("requests preempted")]
    steps: Annotated[int, Figure("steps in which any was")]
    storms: tuple[Storm, ...]
    storm_count: Annotated[int, Figure("storms")]


@dataclass(frozen=True, slots=True)
class Interference:
    """Inter-token latency of the tokens that waited for a step with prefill, and of the others, in seconds."""

    with_prefill: Summary
    decode_only: Summary
    stalled_share: Annotated[
        float | None, Figure("share of the tokens that waited for prefill", null="no token waited for prefill")
    ]
    lost_share: Annotated[
        float | None,
        Figure(
            "share of the time between tokens lost to waiting beyond the median of tokens that did not wait",
            null="no token waited for prefill",
        ),
    ]


@dataclass(frozen=True, slots=True)
class Cost:
    """A fitted cost: estimate, standard error and 95 % interval, in seconds."""

    estimate: Annotated[float, Figure("the cost by least squares", "s")]
    error: Annotated[float, Figure("its standard error (HC1)", "s")]
    low: Annotated[float, Figure("lower end of its 95 % interval", "s")]
    high: Annotated[float, Figure("upper end of its 95 % interval", "s")]


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

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    run: Annotated[str, Figure("the run's name")]
    engine: Annotated[str | None, Figure("the engine's name", null="the run has no result")]
    model: Annotated[str | None, Figure("the model's profile, or its path", null="the run has no result")]
    workload: Annotated[str | None, Figure("the workload's profile, or its path", null="the run has no result")]
    given: Annotated[Mapping[str, Any], Figure("settings given by the user")]
    label: Annotated[Mapping[str, str], Figure("--label")]
    status: Annotated[str | None, Figure("how the run ended", null="the run has no result")]
    steps: Annotated[int, Figure("steps in the window")]
    duration_s: Annotated[float | None, Figure("of the window", "s", null="the window is not known")]
    slowest: tuple[SlowStep, ...]
    fit_s: Annotated[
        Mapping[str, FittedCosts], Figure("step time by composition, for decode_only and with_prefill steps")
    ]
    preemptions: Annotated[
        Preemptions | None,
        Figure("how often requests were preempted, and storms", null="the engine does not report it"),
    ]
    interference_s: Annotated[
        Interference | None,
        Figure("how prefill delays other requests", null="the engine does not report prefill positions"),
    ]
    host_s: Annotated[Mapping[str, PhaseCost], Figure("host phases by requests running, by phase")]
    kind: Annotated[Literal["steps"], Figure("what this document is")] = "steps"
