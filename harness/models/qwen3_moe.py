"""Qwen3's mixtures of experts: Qwen3's attention, and experts in place of most feed-forward blocks."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models import qwen2, qwen3
from innerloop.harness.models.decoder import decoder, gated, router
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Config, Stored


def experts(config: Config) -> int:
    """Of a layer; transformers 5 writes `num_local_experts`."""
    return int(config.get("num_local_experts") or config["num_experts"])


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden = config["hidden_size"]
    yield from qwen3.attending(config, name)
    if number in (config.get("mlp_only_layers") or ()) or (number + 1) % config["decoder_sparse_step"]:
        yield from gated(f"{name}.mlp", hidden, config["intermediate_size"])
        return
    yield router(f"{name}.mlp.gate", experts(config), hidden)
    yield from gated(f"{name}.mlp.experts.{{}}", hidden, config["moe_intermediate_size"], experts=experts(config))


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


QWEN3_MOE = Family(
    "qwen3-moe",
    ("Qwen3MoeForCausalLM",),
    "qwen3_moe",
    tensors,
    qwen2.attention,
    {"decoder_sparse_step": 1},
    required=("moe_intermediate_size", "num_experts_per_tok", "num_experts or num_local_experts"),
    routed=lambda config: (experts(config), config["num_experts_per_tok"]),
)
