"""The settings that every engine shares: what they mean, their defaults, and who overrides whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, model_validator

from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.profiles.types import DType, KVCacheDType, QuantizationMethod
from innerloop.harness.profiles.validation import Fields, Strict, parse_assignments, validate

CPU_KV_CACHE_TOKENS = 32768
CUDA_KV_MEMORY_FRACTION = 0.9
REQUIRED = {"dtype": "float32", "context_length": 1, "max_batch_size": 1, "max_tokens_per_step": 1}  # to check parts


class Settings(Strict):
    """One engine configuration in common terms. `null` leaves the choice to the engine, which reports what it
    chose.

    dtype: type of the activations, of unquantized weights and, unless `kv_cache_dtype` says otherwise, of the KV cache.
    quantization: how the weights are stored; must be the checkpoint's own method (fp8 may also be made on loading).
    tensor_parallel: devices that each layer is split over.
    context_length: prompt + output tokens of the longest request.
    max_batch_size: largest number of requests that run at the same time.
    max_tokens_per_step: largest number of input positions computed in one step, prefill and decode together.
    kv_cache_tokens, kv_memory_fraction: size of the KV cache, as tokens or as a share of the device's memory that
        weights, activations and KV cache together may fill; at most one of the two.
    kv_cache_dtype: type of the numbers in the KV cache: auto, that of `dtype`, or fp8, with half or a quarter of
        the bytes.
    prefix_caching: reuse of KV blocks between requests whose prompts share a prefix.
    chunked_prefill: whether a prompt may be computed over several steps.
    cuda_graphs: whether decode steps are replayed from captured graphs.
    seed: of the engine's own random state; decoding is greedy.
    """

    noun = "setting"

    dtype: DType
    quantization: QuantizationMethod | None = None
    tensor_parallel: int = Field(default=1, ge=1, le=1024)
    context_length: int = Field(ge=1, le=2**31 - 1)
    max_batch_size: int = Field(ge=1, le=2**20)
    max_tokens_per_step: int = Field(ge=1, le=2**31 - 1)
    kv_cache_tokens: int | None = Field(default=None, ge=1, le=2**40)
    kv_memory_fraction: float | None = Field(default=None, gt=0, lt=1)
    kv_cache_dtype: KVCacheDType = "auto"
    prefix_caching: bool = False
    chunked_prefill: bool | None = None
    cuda_graphs: bool | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_kv_size(self) -> Settings:
        if self.kv_cache_tokens is not None and self.kv_memory_fraction is not None:
            raise ValueError(
                "kv_cache_tokens and kv_memory_fraction both set the KV cache's size; use one or the other"
            )
        return self


def check_settings(values: Mapping[str, Any], source: str, prefix: str = "") -> None:
    """Checks some of the settings by themselves: names, types and ranges.

    Raises:
        Refused: names `source` and the setting.
    """
    validate(Settings, {**REQUIRED, **values}, source, prefix)


def parse_settings(given: Iterable[str]) -> Fields:
    """`--set` items into checked values by name; needs neither model nor device.

    Raises:
        Refused: an unknown name, a wrong type, a value out of range, two that contradict each other.
    """
    values = parse_assignments(given, "--set")
    check_settings(values, "--set")
    return values


def resolve_settings(model: ModelProfile, device: str, given: Iterable[str]) -> tuple[Settings, Fields]:
    """All settings for a model on a device, and those that the command line gave.

    Built-in defaults, then the model profile's `settings`, then `--set`. A KV size given at one level replaces
    either KV size of the level below; an explicit null leaves the size to the engine.

    Raises:
        Refused: as `parse_settings`.
    """
    asked = parse_settings(given)
    values: Fields = {
        "dtype": model.dtype,
        "quantization": model.quantization.method if model.quantization else None,
        "context_length": model.max_position_embeddings,
        "max_batch_size": 256,
        "max_tokens_per_step": 8192 if device == "cuda" else 2048,
    }
    sizes = {"kv_cache_tokens", "kv_memory_fraction"}
    for level in (model.settings, asked):
        if sizes & level.keys():
            values = {name: value for name, value in values.items() if name not in sizes}
        values.update(level)
    if not sizes & values.keys():
        if device == "cuda":
            values["kv_memory_fraction"] = CUDA_KV_MEMORY_FRACTION
        else:
            values["kv_cache_tokens"] = max(values["context_length"], CPU_KV_CACHE_TOKENS)
    return validate(Settings, values, "--set" if asked else f"model {model.name}"), asked
