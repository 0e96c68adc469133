"""How a linear layer lies on disk in each weight format, and the `quantization_config` that tells engines so.

Layouts: AutoAWQ's for its gemm kernels; AutoGPTQ's format 1; fp8 as llm-compressor (a scale an output,
"compressed-tensors") or DeepSeek V3 (a scale a block) store it, both with activations that are quantized on the way;
4 bits as llm-compressor packs them (W4A16). Experts that lie in one tensor can be MXFP4, as GPT-OSS is published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from innerloop.harness.checkpoints.quantization_config import (
    CompressedTensorsConfig,
    Fp8BlockConfig,
    Group,
    Number,
    QuantizationConfig,
    Quantized,
)
from innerloop.harness.cli.errors import Refused

if TYPE_CHECKING:
    from innerloop.harness.profiles.models import ModelProfile

DTYPES = {  # safetensors name, bytes a value
    "float32": ("F32", 4),
    "bfloat16": ("BF16", 2),
    "float16": ("F16", 2),
    "float8_e4m3": ("F8_E4M3", 1),
    "int32": ("I32", 4),
    "int64": ("I64", 8),
    "uint8": ("U8", 1),
}
LEVELS_AMPLITUDE = 2.4  # 4-bit levels: a normal distribution of this deviation around 8, cut at 1 and 15
LEVELS_RMS = 2.424  # the root mean square distance of such levels from 8
ZEROS_AMPLITUDE = 0.7  # zero points are drawn likewise and lie between 6 and 10
ZEROS_RMS = 0.755
STORED_EIGHTS = 0x77777777  # a zero point of 8 in all places: format 1 of GPTQ stores one less
FP8_DEVIATION = 100.0  # the largest of all values drawn is 4.33 deviations, e4m3's largest number 448
MX_LEAST = 1.25  # deviation of e2m1 numbers, whose largest is 6: between this and twice this
MX_SCALES_RMS = (5 / 8) ** 0.5  # of two equally frequent exponents, as a part of the larger one's power of two
MX_BLOCK = 32  # numbers that share an exponent


@dataclass(frozen=True, slots=True)
class Fill:
    """What a tensor's values are, by `kind`:

    normal: random, zero mean, `value` = standard deviation. constant: `value` everywhere.
    scales: random, all positive, `value` = root mean square. groups: a row's index, divided by `value`, rounded down.
    nibbles: eight 4-bit numbers in an int32, random around 8, before rounding normal with `value` = deviation.
    e2m1: two 4-bit floats in a byte, `value` = deviation before rounding. exponents: `value` or one less.
    rows: as normal, each row times its own of `numbers`. listed: `numbers`.
    """

    kind: str
    value: float
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint: `dtype` is a key of DTYPES, `shard` counts from 1."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    fill: Fill
    shard: int = 0

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * DTYPES[self.dtype][1]


class Linear(Protocol):
    """Lays out one linear layer in a weight format. Its output varies `gain` times as much as its input."""

    def __call__(self, name: str, outputs: int, inputs: int, dtype: str, gain: float = 1.0) -> Iterator[Tensor]: ...


def dense(name: str, outputs: int, inputs: int, dtype: str, gain: float = 1.0) -> Iterator[Tensor]:
    """An unquantized linear layer."""
    yield Tensor(f"{name}.weight", (outputs, inputs), dtype, Fill("normal", gain * inputs**-0.5))


def awq(name: str, outputs: int, inputs: int, dtype: str, gain: float = 1.0, *, group: int) -> Iterator[Tensor]:
    """4 bits packed along the outputs, in the order 0 2 4 6 1 3 5 7 from the lowest bits on; w = scale * (q - zero)."""
    groups, size = inputs // group, gain * inputs**-0.5 / math.hypot(LEVELS_RMS, ZEROS_RMS)
    yield Tensor(f"{name}.qweight", (inputs, outputs // 8), "int32", Fill("nibbles", LEVELS_AMPLITUDE))
    yield Tensor(f"{name}.qzeros", (groups, outputs // 8), "int32", Fill("nibbles", ZEROS_AMPLITUDE))
    yield Tensor(f"{name}.scales", (groups, outputs), "float16", Fill("scales", size))


def gptq(name: str, outputs: int, inputs: int, dtype: str, gain: float = 1.0, *, group: int) -> Iterator[Tensor]:
    """4 bits packed along the inputs, lowest bits first; w = scale * (q - 8), rows in their own order."""
    groups, size = inputs // group, gain * inputs**-0.5 / LEVELS_RMS
    yield Tensor(f"{name}.qweight", (inputs // 8, outputs), "int32", Fill("nibbles", LEVELS_AMPLITUDE))
    yield Tensor(f"{name}.qzeros", (groups, outputs // 8), "int32", Fill("constant", STORED_EIGHTS))
    yield Tensor(f"{name}.scales", (groups, outputs), "float16", Fill("scales", size))
    yield Tensor(f"{name}.g_idx", (inputs,), "int32", Fill("groups", group))


def fp8(name: str, outputs: int, inputs: int, dtype: str, gain: float = 1.0) -> Iterator[Tensor]:
    """e4m3 with a scale for each output, in the model's dtype as llm-compressor stores it."""
    yield Tensor(f"{name}.weight", (outputs, inputs), "float8_e4m3", Fill("normal", FP8_DEVIATION))
    yield Tensor(f"{name}.weight_scale", (outputs, 1), dtype, Fill("scales", gain * inputs**-0.5 / FP8_DEVIATION))


def fp8_blocks(
    name: str, outputs: int, inputs: int, dtype: str, gain: float = 1.0, *, block: int, scales: str = "float32"
) -> Iterator[Tensor]:
    """e4m3 with a scale for each `block` x `block` values (called inverse, yet weights are multiplied with it)."""
    yield Tensor(f"{name}.weight", (outputs, inputs), "float8_e4m3", Fill("normal", FP8_DEVIATION))
    blocks, size = (-(-outputs // block), -(-inputs // block)), gain * inputs**-0.5 / FP8_DEVIATION
    yield Tensor(f"{name}.weight_scale_inv", blocks, scales, Fill("scales", size))


def packed(name: str, outputs: int, inputs: int, dtype: str, gain: float = 1.0, *, group: int) -> Iterator[Tensor]:
    """4 bits packed along the inputs, lowest bits first; w = scale * (q - 8)."""
    size, scales = gain * inputs**-0.5 / LEVELS_RMS, "bfloat16" if dtype == "float32" else dtype
    yield Tensor(f"{name}.weight_packed", (outputs, inputs // 8), "int32", Fill("nibbles", LEVELS_AMPLITUDE))
    yield Tensor(f"{name}.weight_scale", (outputs, inputs // group), scales, Fill("scales", size))
    yield Tensor(f"{name}.weight_shape", (2,), "int64", Fill("listed", 0.0, (outputs, inputs)))


def mxfp4(name: str, shape: tuple[int, ...], deviation: float) -> Iterator[Tensor]:
    """A stack of experts [experts, inputs, outputs] as 4-bit floats (e2m1), two in a byte, the lower bits first, and an
    exponent (e8m0) for each 32 inputs (OCP Microscaling Formats 1.0)."""
    experts, inputs, outputs = shape
    exponent = math.floor(math.log2(deviation / (MX_SCALES_RMS * MX_LEAST)))
    numbers = Fill("e2m1", deviation / (MX_SCALES_RMS * 2.0**exponent))
    blocks = (experts, outputs, inputs // MX_BLOCK)
    yield Tensor(f"{name}_blocks", (*blocks, MX_BLOCK // 2), "uint8", numbers)
    yield Tensor(f"{name}_scales", blocks, "uint8", Fill("exponents", 127.0 + exponent))


def linear_format(model: ModelProfile) -> Linear:
    """The function that lays out the model's linear layers.

    Raises:
        Refused: a weight format that cannot be made.
    """
    stored = model.quantization
    if stored is None or stored.method == "mxfp4":
        return dense
    method = stored.method
    if method == "awq" and stored.bits == 4 and stored.zero_point and stored.version == "gemm":
        return partial(awq, group=stored.group_size)
    if method == "gptq" and stored.bits == 4 and not stored.zero_point:
        return partial(gptq, group=stored.group_size)
    if method == "compressed-tensors" and stored.bits == 4 and not stored.zero_point:
        return partial(packed, group=stored.group_size)
    if method == "fp8":
        scales = stored.scale_dtype or "float32"
        return partial(fp8_blocks, block=stored.block_size, scales=scales) if stored.block_size else fp8
    known = {
        "awq": "awq needs quantization.bits=4, zero_point=true and version=gemm",
        "gptq": "gptq needs quantization.bits=4 and zero_point=false",
        "compressed-tensors": "compressed-tensors needs quantization.bits=4 and zero_point=false",
    }
    raise Refused(
        f"cannot create a synthetic checkpoint for {model.name}: its {method} format is not supported",
        known[method],
        "or give real weights with --weights DIR",
    )


def quantization_config(model: ModelProfile) -> QuantizationConfig | None:
    """What config.json says about the weights, in the words of the tools that publish such checkpoints."""
    stored = model.quantization
    if stored is None:
        return None
    kept = unquantized(model)
    if stored.method == "fp8":
        return fp8_config(stored.block_size, ["lm_head", *kept])
    if stored.method == "compressed-tensors":
        return packed_config(stored.group_size, ["lm_head", *kept])
    if stored.method == "mxfp4":
        apart = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
        return {"quant_method": "mxfp4", "modules_to_not_convert": apart}
    if stored.method == "awq":
        return {
            "quant_method": "awq",
            "bits": stored.bits,
            "group_size": stored.group_size,
            "zero_point": stored.zero_point,
            "version": stored.version,
            "modules_to_not_convert": kept or None,
        }
    return {
        "quant_method": stored.method,
        "bits": stored.bits,
        "group_size": stored.group_size,
        "checkpoint_format": "gptq",
        "desc_act": False,
        "sym": not stored.zero_point,
        "damp_percent": 0.01,
        "true_sequential": True,
        "lm_head": False,
    }


def unquantized(model: ModelProfile) -> list[str]:
    """The layers' matrices that stay as they are (routers), which engines must be told."""
    every = model.family.tensors(model.shape()) if model.family else ()
    return [tensor.name.removesuffix(".weight") for tensor in every if tensor.kind == "router"]


def fp8_config(block: int | None, whole: Sequence[str] = ("lm_head",)) -> Fp8BlockConfig | CompressedTensorsConfig:
    """`quantization_config` of fp8 weights in blocks, or of fp8 weights with a scale for each output; `whole` are the
    matrices that stay as they are."""
    if block:
        return {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [block, block],
            "ignored_layers": list(whole),  # the engines differ in the name
            "modules_to_not_convert": list(whole),
        }
    number: Number = {"num_bits": 8, "type": "float", "symmetric": True, "group_size": None}
    weights: Quantized = {**number, "strategy": "channel", "dynamic": False, "observer": "minmax"}
    return compressed_config(
        "float-quantized", whole, weights, {**weights, "strategy": "token", "dynamic": True, "observer": None}
    )


def packed_config(group: int, whole: Sequence[str]) -> CompressedTensorsConfig:
    """`quantization_config` of 4-bit weights with a scale for each `group` inputs (W4A16)."""
    number: Number = {"num_bits": 4, "type": "int", "symmetric": True, "group_size": group}
    weights: Quantized = {**number, "strategy": "group", "dynamic": False, "observer": "minmax"}
    return compressed_config("pack-quantized", whole, weights, None)


def compressed_config(
    form: str, whole: Sequence[str], weights: Quantized, activations: Quantized | None
) -> CompressedTensorsConfig:
    """llm-compressor's `quantization_config`, of all linear layers but those in `whole`."""
    group: Group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": activations,
        "output_activations": None,
        "format": form,  # TurboMind reads it here and nowhere else
    }
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "kv_cache_scheme": None,
        "ignore": list(whole),
        "config_groups": {"group_0": group},
    }
