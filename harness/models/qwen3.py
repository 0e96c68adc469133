"""Qwen3, dense: Llama with a norm on each head's queries and keys."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models import qwen2
from innerloop.harness.models.decoder import decoder, gated, queries_keys_values
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Config, Stored, norm


def attending(config: Config, name: str) -> Iterator[Stored]:
    """A layer's norms, and its attention."""
    bias = bool(config.get("attention_bias"))
    yield norm(f"{name}.input_layernorm", config["hidden_size"])
    yield from queries_keys_values(config, f"{name}.self_attn", bias=bias, out_bias=bias)
    yield norm(f"{name}.self_attn.q_norm", config["head_dim"])
    yield norm(f"{name}.self_attn.k_norm", config["head_dim"])
    yield norm(f"{name}.post_attention_layernorm", config["hidden_size"])


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    yield from attending(config, name)
    yield from gated(f"{name}.mlp", config["hidden_size"], config["intermediate_size"])


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


QWEN3 = Family("qwen3", ("Qwen3ForCausalLM",), "qwen3", tensors, qwen2.attention)
