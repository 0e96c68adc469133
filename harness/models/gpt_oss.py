"""GPT-OSS: biases everywhere, a sink a head, windows in every other layer, the experts of a layer in one tensor.

The tensors are those of a checkpoint in bfloat16; those published by OpenAI hold the experts in MXFP4.
"""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models.decoder import by_type, decoder, layer_types, queries_keys_values, router
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import BIAS_DEVIATION, Attention, Config, Stored, norm


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden, inner, count = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    bias = bool(config["attention_bias"])
    yield norm(f"{name}.input_layernorm", hidden)
    yield from queries_keys_values(config, f"{name}.self_attn", bias=bias, out_bias=bias)
    yield Stored(f"{name}.self_attn.sinks", (config["num_attention_heads"],), "vector", BIAS_DEVIATION)
    yield norm(f"{name}.post_attention_layernorm", hidden)
    yield router(f"{name}.mlp.router", count, hidden)
    yield Stored(f"{name}.mlp.router.bias", (count,), "vector", value=0.0)
    experts = f"{name}.mlp.experts"
    yield Stored(f"{experts}.gate_up_proj", (count, hidden, 2 * inner), "stack", hidden**-0.5, experts=count)
    yield Stored(f"{experts}.gate_up_proj_bias", (count, 2 * inner), "vector", BIAS_DEVIATION)
    yield Stored(f"{experts}.down_proj", (count, inner, hidden), "stack", inner**-0.5, experts=count)
    yield Stored(f"{experts}.down_proj_bias", (count, hidden), "vector", BIAS_DEVIATION)


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


def attention(config: Config) -> list[Attention]:
    return by_type(config, layer_types(config, 2))


GPT_OSS = Family(
    "gpt-oss",
    ("GptOssForCausalLM",),
    "gpt_oss",
    tensors,
    attention,
    {"sliding_window": 128, "attention_bias": True},
    required=("intermediate_size", "num_local_experts", "num_experts_per_tok"),
    quantizes=("mxfp4",),
    routed=lambda config: (config["num_local_experts"], config["num_experts_per_tok"]),
)
