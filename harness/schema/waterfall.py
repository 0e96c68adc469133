"""waterfall.json: what each layer adds, from runs of several layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.steps import Client

VERSION = "2.0"


@dataclass(frozen=True, slots=True)
class LatencyPoints:
    """A latency: medians over the trials of each trial's figure, in seconds."""

    mean: Annotated[
        float | None, Figure("median over the trials of each one's mean", "s", null="no trial has it", better="lower")
    ]
    p50: Annotated[float | None, Figure("likewise of the medians", "s", null="no trial has it", better="lower")]
    p90: Annotated[
        float | None, Figure("likewise of the 90 % quantiles", "s", null="no trial has enough values", better="lower")
    ]
    p99: Annotated[
        float | None, Figure("likewise of the 99 % quantiles", "s", null="no trial has enough values", better="lower")
    ]


@dataclass(frozen=True, slots=True)
class RunReason:
    """A reason of one of the runs."""

    code: Annotated[str, Figure("the reason's code")]
    detail: Annotated[str, Figure("what was observed")]


@dataclass(frozen=True, slots=True)
class LayerRun:
    """One of the runs."""

    folder: Annotated[str, Figure("the run's folder, from the experiment's")]
    status: Annotated[str, Figure("how the run ended")]
    reasons: tuple[RunReason, ...]
    output_tokens_per_s: Annotated[
        float | None, Figure("its speed", "tokens/s", null="the run has none", better="higher")
    ]


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer, or one of the two rows below the innermost: the roofline bound and the kernels."""

    name: Annotated[str, Figure("bound, kernels, or the layer")]
    kind: Annotated[Literal["bound", "kernels", "layer"], Figure("what the row is")]
    reason: Annotated[str | None, Figure("why it has no figures", null="the row has figures")]
    trials: Annotated[int, Figure("trials that have it")]
    s_per_output_token: Annotated[
        float | None,
        Figure(
            "window without idle time / output tokens, median of the trials",
            unit="s",
            better="lower",
            null="`reason` says why",
        ),
    ]
    s_per_output_token_range: Annotated[
        tuple[float, float] | None, Figure("lowest and highest of the trials", unit="s", null="`reason` says why")
    ]
    ttft_s: Annotated[LatencyPoints | None, Figure("time to first token", null="the row is not a layer")]
    tpot_s: Annotated[LatencyPoints | None, Figure("time per output token", null="the row is not a layer")]
    tokens_per_s: Annotated[
        float | None, Figure("1 / s_per_output_token", unit="tokens/s", better="higher", null="`reason` says why")
    ] = None
    ms_per_step: Annotated[
        float | None, Figure("time per step of the core layer", unit="ms", null="layer core was not run")
    ] = None
    added_s_per_output_token: Annotated[
        float | None, Figure("difference from the layer below", unit="s", null="`reason` says why")
    ] = None
    added_ms_per_step: Annotated[
        float | None,
        Figure("time added to the layer below, per step of the core layer", unit="ms", null="layer core was not run"),
    ] = None
    added_share: Annotated[float | None, Figure("of the outermost layer's time", null="`reason` says why")] = None
    ratio_to_below: Annotated[
        float | None,
        Figure("its time / the time of the layer below, geometric mean over trials", null="no trial has both layers"),
    ] = None
    ratio_to_below_ci: Annotated[
        tuple[float, float] | None,
        Figure("its 95 % interval, by t on the trials' log ratios", null="fewer than three trials have both layers"),
    ] = None
    within_scatter: Annotated[bool | None, Figure("that interval contains 1", null="there is no interval")] = None
    runs: tuple[LayerRun, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineName:
    """Which engine."""

    name: Annotated[str | None, Figure("as in --engine", null="no run has ended yet")]
    version: Annotated[str | None, Figure("of the engine's package", null="no run has ended yet")]


@dataclass(frozen=True, slots=True)
class Waterfall:
    """What each layer adds to the time of an output token."""

    schema_version: Annotated[str, Figure("MAJOR.MINOR; a minor version only adds fields")]
    innerloop_version: Annotated[str, Figure("the version that wrote this document")]
    created: Annotated[str, Figure("when it was written, UTC in ISO 8601")]
    status: Annotated[
        Literal["ok", "suspect", "failed", "partial", "interrupted"],
        Figure("how it ended; suspect: one of its runs is"),
    ]
    engine: EngineName
    model: Annotated[str | None, Figure("the model's profile, or its path", null="no run has ended yet")]
    dtype: Annotated[
        str | None, Figure("number format of the activations", null="it is unknown, or the runs have several")
    ]
    device: Annotated[str | None, Figure("cpu or cuda", null="it is unknown")]
    workload: Annotated[str | None, Figure("the workload's profile, or its path", null="no run has ended yet")]
    workload_hash: Annotated[
        str | None, Figure("of the requests, which are the same on all layers", null="no run has ended yet")
    ]
    layers: Annotated[tuple[str, ...], Figure("the layers, innermost first")]
    trials: Annotated[int, Figure("trials of each layer")]
    tokens_per_step: Annotated[
        float | None, Figure("output tokens per step, on the core layer", null="layer core was not run")
    ]
    rungs: tuple[LayerRow, ...]
    differences: Annotated[Mapping[str, Mapping[str, Any]], Figure("engine arguments that differ between layers")] = (
        field(default_factory=dict)
    )
    paced_by_load: Annotated[
        bool, Figure("requests were missing for more than 5 % of a window, so that the load set the pace")
    ] = False
    client: Annotated[Client | None, Figure("the client of layer http", null="layer http was not run")] = None
    kind: Annotated[Literal["waterfall"], Figure("what this document is")] = "waterfall"
