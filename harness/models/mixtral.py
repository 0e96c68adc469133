"""Mixtral: Mistral's attention, and experts in every layer."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models import mistral
from innerloop.harness.models.decoder import decoder, queries_keys_values, router
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Config, Stored, linear, norm


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden, inner, count = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    expert = f"{name}.block_sparse_moe.experts.{{}}"
    yield norm(f"{name}.input_layernorm", hidden)
    yield from queries_keys_values(config, f"{name}.self_attn")
    yield norm(f"{name}.post_attention_layernorm", hidden)
    yield router(f"{name}.block_sparse_moe.gate", count, hidden)
    yield from linear(f"{expert}.w1", inner, hidden, experts=count)
    yield from linear(f"{expert}.w3", inner, hidden, experts=count)
    yield from linear(f"{expert}.w2", hidden, inner, experts=count)


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


MIXTRAL = Family(
    "mixtral",
    ("MixtralForCausalLM",),
    "mixtral",
    tensors,
    mistral.attention,
    {"sliding_window": None},
    required=("intermediate_size", "num_local_experts", "num_experts_per_tok"),
    routed=lambda config: (config["num_local_experts"], config["num_experts_per_tok"]),
)
