"""Phi-3 and Phi-4: queries, keys and values in one matrix, gate and up in another."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models import mistral
from innerloop.harness.models.decoder import decoder, heads_size, kv_size
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import ATTENTION_GAIN, Config, Stored, linear, norm


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    yield norm(f"{name}.input_layernorm", hidden)
    yield from linear(f"{name}.self_attn.qkv_proj", heads_size(config) + 2 * kv_size(config), hidden)
    yield from linear(f"{name}.self_attn.o_proj", hidden, heads_size(config), gain=ATTENTION_GAIN)
    yield norm(f"{name}.post_attention_layernorm", hidden)
    yield from linear(f"{name}.mlp.gate_up_proj", 2 * inner, hidden)
    yield from linear(f"{name}.mlp.down_proj", hidden, inner)


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


PHI3 = Family(
    "phi3", ("Phi3ForCausalLM",), "phi3", tensors, mistral.attention, {"sliding_window": None}, unwritten=("head_dim",)
)
