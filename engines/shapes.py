"""What a checkpoint's config.json says about sizes, for adapters whose engine does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def config(checkpoint: str) -> dict[str, Any]:
    return json.loads((Path(checkpoint) / "config.json").read_text())


def is_quantized(checkpoint: str) -> bool:
    """Whether the weights are stored quantized, so that the engine finds the method by itself."""
    return config(checkpoint).get("quantization_config") is not None


def kv_bytes_per_token(checkpoint: str, dtype: str, tensor_parallel: int = 1) -> int:
    """Bytes that one token's keys and values take on each device: all layers, KV heads split over the devices."""
    c = config(checkpoint)
    heads = c.get("num_key_value_heads") or c["num_attention_heads"]
    head_dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    return 2 * c["num_hidden_layers"] * max(heads // tensor_parallel, 1) * head_dim * DTYPE_BYTES[dtype]
