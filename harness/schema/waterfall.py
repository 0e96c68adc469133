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

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class RunReason:
    """A reason of one of the runs."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class LayerRun:
    """One of the runs."""

    folder: str
    status: str
    reasons: tuple[RunReason, ...]
    output_tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer, or one of the two rows below the innermost: the roofline bound and the kernels."""

    name: str
    kind: Literal["bound", "kernels", "layer"]
    reason: Annotated[str | None, Figure("why it has no figures", null="the row has figures")]
    trials: int
    s_per_output_token: Annotated[
        float | None, Figure("window without idle time / output tokens, median of the trials", unit="s", better="lower")
    ]
    s_per_output_token_range: Annotated[
        tuple[float, float] | None, Figure("lowest and highest of the trials", unit="s")
    ]
    ttft_s: LatencyPoints | None
    tpot_s: LatencyPoints | None
    tokens_per_s: Annotated[float | None, Figure("1 / s_per_output_token", unit="tokens/s", better="higher")] = None
    ms_per_step: Annotated[float | None, Figure("per step of the core layer", unit="ms")] = None
    added_s_per_output_token: Annotated[float | None, Figure("difference from the layer below", unit="s")] = None
    added_ms_per_step: Annotated[float | None, Figure("the same per step of the core layer", unit="ms")] = None
    added_share: Annotated[float | None, Figure("of the outermost layer's time")] = None
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

    name: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Waterfall:
    """What each layer adds to the time of an output token."""

    schema_version: str
    innerloop_version: str
    created: str
    status: Literal["ok", "suspect", "failed", "partial", "interrupted"]
    engine: EngineName
    model: str | None
    dtype: str | None
    device: str | None
    workload: str | None
    workload_hash: str | None
    layers: tuple[str, ...]
    trials: int
    tokens_per_step: Annotated[float | None, Figure("output tokens per step, on the core layer")]
    rungs: tuple[LayerRow, ...]
    differences: Annotated[Mapping[str, Mapping[str, Any]], Figure("engine arguments that differ between layers")] = (
        field(default_factory=dict)
    )
    paced_by_load: bool = False
    client: Client | None = None
    kind: Literal["waterfall"] = "waterfall"
