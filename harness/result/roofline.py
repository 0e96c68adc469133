"""How far a run is from what the machine can do: what its model costs a step, by its profile and by the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from innerloop.harness.analysis.context import Work
from innerloop.harness.analysis.roofline import bounds, roofline
from innerloop.harness.analysis.sight import seen
from innerloop.harness.ceilings.datasheet import DATASHEETS
from innerloop.harness.ceilings.model import QUANTIZED_DTYPE, Ceilings
from innerloop.harness.cli.errors import Refused
from innerloop.harness.models.routing import shares
from innerloop.harness.models.sizes import Sizes, sizes
from innerloop.harness.models.stored import Attention
from innerloop.harness.profiles.models import DTYPE_BYTES, ModelProfile
from innerloop.harness.profiles.validation import validate
from innerloop.harness.schema.roofline import Cost, MeasuredPeaks, OfSteps, Peaks, Roofline, Routed, Windowed
from innerloop.harness.schema.window import Steady
from innerloop.harness.store.tables import Tables

OVER = 1.0  # a share above this: a peak was measured too low, or something was counted that was not done
KV_BYTES = {  # by the engines' names; fp8 is recognised by its beginning
    "int8": 1.0, "uint8": 1.0, "i8": 1.0, "u8": 1.0, "int4": 0.5, "u4": 0.5, **DTYPE_BYTES,
}  # fmt: skip


def section(
    spec: Mapping[str, Any],
    effective: Mapping[str, Any],
    tables: Tables,
    ceilings: Ceilings | None,
    why_none: str | None,
    steady: Steady | None = None,
) -> Roofline:
    """The figures of `harness.analysis.roofline`, and the measured peaks that they stand on.

    `spec` is RunSpec.describe(), `effective` the settings as the engine resolved them.
    """
    if ceilings is None:
        return Roofline(reason=why_none or "the machine's peaks were not measured")
    try:
        cost = cost_of(spec, effective)
    except KeyError as error:
        return Roofline(reason=f"the run's model is unknown: {error}")
    except Refused as error:
        return Roofline(reason=f"the cost of a step is unknown: {error}")
    # Ranks on a CPU share the one whose peaks were measured.
    devices = ranks_of(spec, effective) if ceilings.key.device == "cuda" else 1
    total = total_peaks(ceilings, cost, devices)
    if total is None:
        return Roofline(reason=f"this machine's {cost.linear_dtype} matmul throughput is unknown")
    published = datasheet_peaks(ceilings.key.name, cost, devices)
    figures = roofline(tables.steps, tables.tokens, tables.requests, cost, total, steady, published)
    return replace(figures, peaks=measured_peaks(ceilings, cost, devices), above_bound=above(figures.bound_share))


def measured_peaks(ceilings: Ceilings, cost: Cost, ranks: int) -> MeasuredPeaks:
    return MeasuredPeaks(
        device=ceilings.key.name,
        devices=ranks,
        bytes_per_s=ceilings.bytes_per_s,
        copy_bytes_per_s=ceilings.memory["copy_bytes_per_s"],
        read_bytes_per_s=ceilings.memory["read_bytes_per_s"],
        dtype=cost.dtype,
        ops_per_s=ceilings.ops_per_s(cost.dtype),
        linear_dtype=cost.linear_dtype,
        linear_ops_per_s=ceilings.ops_per_s(cost.linear_dtype),
        tf32=ceilings.tf32,
        torch=ceilings.key.torch,
        measured=ceilings.measured,
        other_cores=ceilings.other_cores,
        disturbed=ceilings.disturbed,
        clocks=ceilings.clocks,
    )


def bound_s_of(tables: Tables, done: Work, roofline: Roofline | None) -> np.ndarray | None:
    """The least time that the machine allows each step, float64 [steps] in seconds; None where it is not known.
    `done` is the work of the tables."""
    if roofline is None or roofline.cost is None or roofline.total_peaks is None:
        return None
    windows = [one.window for one in roofline.cost.windowed]
    saw = seen(tables.steps, tables.tokens, tables.requests, windows)
    return bounds(done, roofline.cost, roofline.total_peaks, saw).bound_s


def total_peaks(ceilings: Ceilings, cost: Cost, ranks: int) -> Peaks | None:
    """The peaks of one device times the devices that share every layer; None where a rate is not known. A format
    that was not tried on a GPU is not known; one that was, and is not there, is computed in a wider one."""
    if ceilings.key.device == "cuda" and cost.linear_dtype not in ceilings.matrix:
        return None
    rate, linear = ceilings.ops_per_s(cost.dtype), ceilings.ops_per_s(cost.linear_dtype)
    if rate is None or linear is None:
        return None
    return Peaks(ceilings.bytes_per_s * ranks, rate * ranks, linear * ranks)


def datasheet_peaks(device: str, cost: Cost, ranks: int) -> Peaks | None:
    """What the maker says of all devices together; None where that is not known of the device or the number format."""
    known = DATASHEETS.get(device)
    if known is None:
        return None
    rate, linear = known.ops_per_s(cost.dtype), known.ops_per_s(cost.linear_dtype)
    if rate is None or linear is None:
        return None
    return Peaks(known.bytes_per_s * ranks, rate * ranks, linear * ranks)


def ranks_of(spec: Mapping[str, Any], effective: Mapping[str, Any]) -> int:
    settings = spec.get("settings") or {}
    return int(effective.get("tensor_parallel") or settings.get("tensor_parallel") or 1)


def cost_of(spec: Mapping[str, Any], effective: Mapping[str, Any]) -> Cost:
    """What a step costs, of all devices together.

    Quantized matrices are read at their stored size and, but for FP8, multiplied in the run's dtype. With more devices
    than KV heads each device keeps a copy of some, and the copies are read too.

    Raises:
        KeyError, Refused: the spec holds no model profile, or a number format is one whose size is not known.
    """
    model = validate(ModelProfile, spec["model_profile"], "model_profile")
    if model.family is None:
        raise Refused(f"innerloop does not know any model family with architecture {model.architecture}")
    settings = spec.get("settings") or {}
    dtype = str(effective.get("dtype") or settings.get("dtype") or model.dtype)
    if dtype not in DTYPE_BYTES:
        raise Refused(f"the engine computes in {dtype!r}, a dtype of unknown size")
    size = DTYPE_BYTES[dtype]
    stored = model.quantization.method if model.quantization is not None else None
    method = stored or effective.get("quantization") or settings.get("quantization")
    numbers, layers = sizes(model.family, model.shape()), model.family.attention(model.shape())
    number = kv_size(effective.get("kv_cache_dtype"), size)
    ranks = ranks_of(spec, effective)
    head = model.hidden_size * model.vocab_size
    ops, decode_ops = sum(layer.ops for layer in layers), sum(layer.decode_ops for layer in layers)
    others = (numbers.plain + numbers.vectors) * size + numbers.always_float32 * (4 - size)
    stacks = model.quantization.stacks_bytes(numbers.stacks, size) if model.quantization else numbers.stacks * size
    routed = matrices_bytes(model, numbers, size, method, routed=True) + stacks
    return Cost(
        layers_bytes=matrices_bytes(model, numbers, size, method, routed=False) + others,
        lm_head_bytes=head * size,
        embedding_bytes=model.hidden_size * size,
        kv_bytes=kv_numbers(layers, ranks) * number,
        linear_ops=2 * numbers.multiplied,
        lm_head_ops=2 * head,
        attention_ops=ops,
        dtype=dtype,
        linear_dtype=QUANTIZED_DTYPE.get(quantization_family(method), dtype),
        routed=Routed(routed, numbers.experts, numbers.taken, popularity(model, numbers)) if numbers.experts else None,
        windowed=windowed(layers, ranks, number),
        decode_attention_ops=None if decode_ops == ops else decode_ops,
    )


def popularity(model: ModelProfile, numbers: Sizes) -> tuple[float, ...] | None:
    """The share of positions that each expert is chosen for, most popular first; None: it is the same for each."""
    if not model.routing_zipf:
        return None
    return tuple(shares(numbers.experts, numbers.taken, model.routing_zipf).tolist())


def matrices_bytes(model: ModelProfile, numbers: Sizes, size: int, method: str | None, *, routed: bool) -> float:
    """Bytes of the packed matrices as stored, or as FP8 where they are quantized on loading; of the routed experts or
    of the rest."""
    each = 1 if model.quantization is None and quantization_family(method) == "fp8" else size
    total = 0.0
    for rows, columns, times, of_experts in numbers.matrices:
        if of_experts == routed:
            quantized = model.quantization
            stored = quantized.matrix_bytes(rows, columns, size) if quantized else rows * columns * each
            total += times * stored
    return total


def windowed(layers: list[Attention], ranks: int, number: float) -> tuple[Windowed, ...]:
    """What the layers with a window cost, by window."""
    found = []
    for window in sorted({layer.window for layer in layers if layer.window is not None}):
        those = [layer for layer in layers if layer.window == window]
        found.append(Windowed(window, kv_numbers(those, ranks) * number, sum(layer.ops for layer in those)))
    return tuple(found)


def kv_numbers(layers: list[Attention], ranks: int) -> float:
    """Numbers that one token keeps on all devices together; what can't be shared out has a copy on each."""
    return sum(layer.kept * max(ranks / layer.split, 1.0) for layer in layers)


def quantization_family(method: str | None) -> str:
    """The common name of what an engine calls a method that it quantizes with on loading (`fbgemm_fp8`)."""
    return "fp8" if method is not None and "fp8" in method.lower() else str(method)


def kv_size(name: str | None, size: int) -> float:
    """Bytes of a number in the KV cache, by the engine's name of its format; `auto` is the run's dtype.

    Raises:
        Refused: it is none that is known.
    """
    if name is None or name == "auto":
        return float(size)
    if name.startswith(("fp8", "float8")):
        return 1.0
    if name not in KV_BYTES:
        raise Refused(f"the engine's KV cache is in {name!r}, a dtype of unknown size")
    return float(KV_BYTES[name])


def above(bound_share: OfSteps | None) -> str | None:
    """What to say of a run, or of a kind of its steps, that went faster than its bound; None if none did."""
    shares = {} if bound_share is None else asdict(bound_share)
    over = {kind: share for kind, share in shares.items() if share is not None and share > OVER}
    if not over:
        return None
    kind, share = max(over.items(), key=lambda one: one[1])
    steps = "steps" if kind == "all" else f"{kind.replace('_', ' ')} steps"
    return (
        f"{steps} took {1 / share:.2f} times their bound, the minimum time at the measured peaks. Either a measured "
        "peak is too low because the machine was busy (repeat with innerloop ceilings measure), or data counted as "
        "memory reads came from a cache, as happens with small models."
    )


def notes(roofline: Roofline) -> list[str]:
    """What makes the figures of the roofline doubtful, for the result's notes."""
    out = [roofline.above_bound] if roofline.above_bound else []
    peaks = roofline.peaks
    if peaks is not None and peaks.disturbed:
        gpu = peaks.clocks is not None
        used = (
            "just after others had used the GPU" if gpu else f"while other processes used {peaks.other_cores:.1f} cores"
        )
        out.append(
            f"the machine's peaks were measured {used}; the true "
            "peaks are probably higher: run innerloop ceilings measure when the machine is idle"
        )
    return out
