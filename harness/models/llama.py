"""Llama 2 to 3.3, and what is built as they are: Yi, SmolLM and many more."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models.decoder import decoder, everywhere, gated, queries_keys_values
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Config, Stored, norm


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden, bias = config["hidden_size"], bool(config.get("attention_bias"))
    yield norm(f"{name}.input_layernorm", hidden)
    yield from queries_keys_values(config, f"{name}.self_attn", bias=bias, out_bias=bias)
    yield norm(f"{name}.post_attention_layernorm", hidden)
    yield from gated(f"{name}.mlp", hidden, config["intermediate_size"], bias=bool(config.get("mlp_bias")))


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


LLAMA = Family("llama", ("LlamaForCausalLM",), "llama", tensors, everywhere)
