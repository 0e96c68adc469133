"""How close the steps come to the machine's measured peaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from innerloop.harness.schema.figure import Figure

NOT_ASKED = "the machine's peaks were not measured (--ceilings off)"  # a reason


@dataclass(frozen=True, slots=True)
class MeasuredPeaks:
    """The peaks of one device, and how they were measured."""

    device: Annotated[str, Figure("the device's name")]
    devices: Annotated[int, Figure("devices that each layer is split over (tensor parallel)")]
    bytes_per_s: Annotated[float, Figure("memory bandwidth, the higher of copy and read", unit="bytes/s")]
    copy_bytes_per_s: Annotated[float, Figure("best copy, bytes read and written", "bytes/s", better="higher")]
    read_bytes_per_s: Annotated[float, Figure("best sum, bytes read", "bytes/s", better="higher")]
    dtype: Annotated[str, Figure("dtype of attention and lm_head")]
    ops_per_s: Annotated[
        float | None, Figure("matmul throughput in that dtype", unit="operations/s", null="it was not measured")
    ]
    linear_dtype: Annotated[str, Figure("dtype of the layers' matrix products")]
    linear_ops_per_s: Annotated[
        float | None, Figure("matmul throughput in that dtype", unit="operations/s", null="it was not measured")
    ]
    tf32: Annotated[bool | None, Figure("whether float32 products could use TF32 units", null="the device is a CPU")]
    torch: Annotated[str | None, Figure("version of torch that took the measurement", null="it is unknown")]
    measured: Annotated[str | None, Figure("when, UTC", null="it is unknown")]
    other_cores: Annotated[
        float | None, Figure("cores that other processes used during the measurement", null="it is unknown")
    ]
    disturbed: Annotated[
        bool | None,
        Figure("other processes used so much of the device that the peaks may be too low", null="it is unknown"),
    ]
    clocks: Annotated[
        Mapping[str, Any] | None, Figure("the device's clocks during the measurement", null="the device is a CPU")
    ]


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peak rates of all devices together."""

    bytes_per_s: Annotated[float, Figure("memory bandwidth", unit="bytes/s")]
    ops_per_s: Annotated[float, Figure("in the dtype of attention and lm_head", unit="operations/s")]
    linear_ops_per_s: Annotated[float, Figure("in the dtype of the layers' matrices", unit="operations/s")]


@dataclass(frozen=True, slots=True)
class Routed:
    """The experts of all layers that a router chooses from; of random weights each is chosen equally often, unless the
    model profile's `routing_zipf` skews them."""

    bytes: Annotated[float, Figure("all of them, as stored", unit="bytes")]
    experts: Annotated[int, Figure("experts per layer")]
    taken: Annotated[int, Figure("experts per layer that a position is routed to")]
    shares: Annotated[
        Sequence[float] | None,
        Figure("share of positions that each expert is chosen for, most popular first", null="the same for each"),
    ] = None


@dataclass(frozen=True, slots=True)
class Windowed:
    """The layers that attend to at most `window` positions; included in the totals of Cost."""

    window: Annotated[int, Figure("positions that a position attends to, itself included", unit="positions")]
    kv_bytes: Annotated[float, Figure("keys and values of one token in these layers", unit="bytes")]
    attention_ops: Annotated[float, Figure("per pair of positions in these layers", unit="operations")]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model's steps move and compute, of all devices together."""

    layers_bytes: Annotated[float, Figure("read by every step: the layers' matrices as stored, and the norms", "bytes")]
    lm_head_bytes: Annotated[float, Figure("read by a step that outputs a token", "bytes")]
    embedding_bytes: Annotated[float, Figure("one row of the table, per position", "bytes")]
    kv_bytes: Annotated[float, Figure("keys and values of one token", "bytes")]
    linear_ops: Annotated[float, Figure("of the layers' matrices, per position: 2 per parameter", "operations")]
    lm_head_ops: Annotated[float, Figure("per output token: 2 per parameter", "operations")]
    attention_ops: Annotated[float, Figure("per pair of positions: 4 head_dim per head and layer", "operations")]
    dtype: Annotated[str, Figure("dtype of attention and lm_head")]
    linear_dtype: Annotated[str, Figure("dtype in which the layers' matrices are multiplied")]
    routed: Annotated[
        Routed | None,
        Figure(
            "routed experts; a step reads those that its positions are routed to",
            null="the model has no routed experts",
        ),
    ] = None
    windowed: Annotated[Sequence[Windowed], Figure("layers that do not attend to the whole context")] = ()
    decode_attention_ops: Annotated[
        float | None,
        Figure("attention_ops of decode positions", "operations", null="it is the same as attention_ops"),
    ] = None


@dataclass(frozen=True, slots=True)
class OfSteps:
    """A share of the wall time of one kind of steps."""

    all: Annotated[float | None, Figure("of all steps", null="there are no steps")]
    decode_only: Annotated[float | None, Figure("of steps without prefill", null="there are no such steps")]
    with_prefill: Annotated[float | None, Figure("of steps with prefill", null="there are no such steps")]
    steady: Annotated[float | None, Figure("of steps in the steady window", null="there is no steady window")]


@dataclass(frozen=True, slots=True)
class MeanStep:
    """Means over the steps of a kind."""

    bytes: Annotated[float, Figure("bytes moved", "bytes")]
    operations: Annotated[float, Figure("operations computed")]
    bound_s: Annotated[float, Figure("minimum time at the peaks", "s")]
    prefill_positions: Annotated[float, Figure("prefill positions computed")]
    decode_positions: Annotated[float, Figure("decode positions computed")]
    context_tokens: Annotated[float, Figure("context tokens read", "tokens")]


@dataclass(frozen=True, slots=True)
class MeanSteps:
    """Means over the steps of each kind; null where there are none."""

    all: Annotated[MeanStep | None, Figure("all steps", null="`reason` says why")]
    decode_only: Annotated[MeanStep | None, Figure("steps without prefill", null="there are none")]
    with_prefill: Annotated[MeanStep | None, Figure("steps with prefill", null="there are none")]
    steady: Annotated[MeanStep | None, Figure("steps of the steady window", null="there is none")]


@dataclass(frozen=True, slots=True)
class Roofline:
    """The roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009) over the steps, with measured peaks.

    A step's bound is max(bytes / bandwidth, operations / matmul throughput). All but `reason` are null where there
    is one.
    """

    reason: Annotated[str | None, Figure("why there are no figures", null="there are figures")]
    peaks: Annotated[MeasuredPeaks | None, Figure("of one device, as measured", null="`reason` says why")] = None
    total_peaks: Annotated[Peaks | None, Figure("of all devices together", null="`reason` says why")] = None
    cost: Annotated[Cost | None, Figure("what a position, a token and a pair cost", null="`reason` says why")] = None
    bound_s: Annotated[float | None, Figure("sum of the steps' bounds", unit="s", null="`reason` says why")] = None
    bound_share: Annotated[OfSteps | None, Figure("bound / step time", better="higher", null="`reason` says why")] = (
        None
    )
    mbu: Annotated[
        OfSteps | None,
        Figure(
            "bytes / step time / measured bandwidth (model bandwidth utilization)",
            better="higher",
            null="`reason` says why",
        ),
    ] = None
    mfu: Annotated[
        OfSteps | None,
        Figure(
            "operations / step time / measured matmul throughput (model FLOPs utilization)",
            better="higher",
            null="`reason` says why",
        ),
    ] = None
    datasheet: Annotated[
        Peaks | None, Figure("data sheet peaks of all devices together", null="they are unknown for this device")
    ] = None
    mbu_of_datasheet: Annotated[
        float | None,
        Figure(
            "bytes / time from the first step's start to the last one's end / bandwidth of the data sheet",
            null="the data sheet's peaks are unknown",
            better="higher",
        ),
    ] = None
    mfu_of_datasheet: Annotated[
        float | None,
        Figure(
            "operations / time from the first step's start to the last one's end / dense matmul throughput of the data "
            "sheet",
            null="the data sheet's peaks are unknown",
            better="higher",
        ),
    ] = None
    memory_bound_share: Annotated[
        OfSteps | None, Figure("share of the bound in memory-bound steps", null="`reason` says why")
    ] = None
    output_tokens_per_s_at_bound: Annotated[
        float | None, Figure("output tokens / bound", unit="tokens/s", null="`reason` says why")
    ] = None
    bytes: Annotated[float | None, Figure("moved by all steps", unit="bytes", null="`reason` says why")] = None
    operations: Annotated[float | None, Figure("of all steps", unit="operations", null="`reason` says why")] = None
    per_step: Annotated[MeanSteps | None, Figure("means over the steps of each kind", null="`reason` says why")] = None
    unattributed_prefill_positions: Annotated[
        int | None, Figure("positions that no request's prompt accounts for", null="`reason` says why")
    ] = None
    above_bound: Annotated[
        str | None, Figure("how to interpret steps faster than their bound", null="no step is faster than its bound")
    ] = None
