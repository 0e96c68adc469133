"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models.decoder import by_type, decoder, gated, queries_keys_values
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Attention, Config, Stored, norm


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden = config["hidden_size"]
    yield norm(f"{name}.input_layernorm", hidden)
    yield from queries_keys_values(config, f"{name}.self_attn", bias=True)
    yield norm(f"{name}.post_attention_layernorm", hidden)
    yield from gated(f"{name}.mlp", hidden, config["intermediate_size"])


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


def attention(config: Config) -> list[Attention]:
    """With `use_sliding_window`, the layers from `max_window_layers` on see a window."""
    layers = config["num_hidden_layers"]
    whole = config.get("max_window_layers") if config.get("use_sliding_window") else None
    own = ["sliding_attention" if whole is not None and i >= whole else "full_attention" for i in range(layers)]
    return by_type(config, config.get("layer_types") or own)


QWEN2 = Family("qwen2", ("Qwen2ForCausalLM",), "qwen2", tensors, attention)
