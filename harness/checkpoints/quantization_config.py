"""config.json's `quantization_config`, as the tools write it that publish quantized checkpoints."""

from __future__ import annotations

from typing import TypedDict


class AwqConfig(TypedDict):
    """AutoAWQ's."""

    quant_method: str
    bits: int
    group_size: int
    zero_point: bool
    version: str
    modules_to_not_convert: list[str] | None


class GptqConfig(TypedDict):
    """AutoGPTQ's."""

    quant_method: str
    bits: int
    group_size: int
    checkpoint_format: str
    desc_act: bool
    sym: bool
    damp_percent: float
    true_sequential: bool
    lm_head: bool


class Fp8BlockConfig(TypedDict):
    """DeepSeek V3's: a scale a block of the weights, [rows, columns]."""

    quant_method: str
    fmt: str
    activation_scheme: str
    weight_block_size: list[int]
    ignored_layers: list[str]
    modules_to_not_convert: list[str]


class Number(TypedDict):
    """How a number is stored, and how many of them share a scale."""

    num_bits: int
    type: str
    symmetric: bool
    group_size: int | None


class Quantized(Number):
    """Numbers of a kind, and how their scales are found."""

    strategy: str
    dynamic: bool
    observer: str | None


class Group(TypedDict):
    """The modules that are quantized alike."""

    targets: list[str]
    weights: Quantized
    input_activations: Quantized | None
    output_activations: Quantized | None
    format: str


class CompressedTensorsConfig(TypedDict):
    """llm-compressor's."""

    quant_method: str
    format: str
    quantization_status: str
    kv_cache_scheme: Quantized | None
    ignore: list[str]
    config_groups: dict[str, Group]


class Mxfp4Config(TypedDict):
    """OpenAI's, of GPT-OSS."""

    quant_method: str
    modules_to_not_convert: list[str]


QuantizationConfig = AwqConfig | GptqConfig | Fp8BlockConfig | CompressedTensorsConfig | Mxfp4Config
