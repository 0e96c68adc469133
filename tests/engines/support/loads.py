"""Loads for tests of what an adapter makes of the common settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.engines.contract import Load

CONFIG = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
SETTINGS: dict[str, Any] = {
    "dtype": "bfloat16",
    "quantization": None,
    "tensor_parallel": 1,
    "context_length": 4096,
    "max_batch_size": 64,
    "max_tokens_per_step": 2048,
    "kv_cache_tokens": None,
    "kv_memory_fraction": None,
    "kv_cache_dtype": "auto",
    "prefix_caching": False,
    "chunked_prefill": None,
    "cuda_graphs": None,
    "seed": 3,
}


def make_load(
    device: str = "cuda",
    engine_args: dict[str, Any] | None = None,
    stored: Mapping[str, Any] | None = None,
    checkpoint: str = "/model",
    **settings: Any,
) -> Load:
    """A load of an 8B shape; `stored` is the quantization_config of its checkpoint, if that is quantized."""
    config = {**CONFIG, **({"quantization_config": stored} if stored else {})}
    return Load(checkpoint, config, device, "core", {**SETTINGS, **settings}, engine_args or {})
