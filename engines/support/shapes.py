"""What a checkpoint's config.json says about sizes, for adapters whose engine does not."""

from __future__ import annotations

from typing import Any

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def is_quantized(config: dict[str, Any]) -> bool:
    """Whether the weights are stored quantized, so that the engine finds the method by itself."""
    return config.get("quantization_config") is not None


def fp8_in_blocks(config: dict[str, Any]) -> bool:
    """Whether the weights are stored in FP8 with a scale for each block, as DeepSeek V3's are."""
    stored = config.get("quantization_config") or {}
    return stored.get("quant_method") == "fp8" and stored.get("weight_block_size") is not None


def keeps_fp8(settings: dict[str, Any]) -> bool:
    """Whether the KV cache is to hold FP8 numbers; else it holds those of `dtype`."""
    return settings.get("kv_cache_dtype") == "fp8"


def kv_bytes_per_token(config: dict[str, Any], dtype: str, tensor_parallel: int = 1) -> int:
    """Bytes that one token's keys and values take on each device: all layers, KV heads split over the devices; with
    latent attention (MLA) what is kept in their place.

    `dtype` is that of the cache: one of DTYPE_BYTES, or any FP8 by its engine's name (fp8, fp8_e4m3, float8_e4m3fn).
    """
    config = config.get("text_config") or config  # the language model of a multimodal one
    size = 1 if dtype.startswith(("fp8", "float8")) else DTYPE_BYTES[dtype]
    if config.get("kv_lora_rank"):  # latents and one rotary key, on every device
        return int(config["num_hidden_layers"] * (config["kv_lora_rank"] + config["qk_rope_head_dim"]) * size)
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return 2 * config["num_hidden_layers"] * max(heads // tensor_parallel, 1) * head_dim * size
