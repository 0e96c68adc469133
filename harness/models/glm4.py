"""GLM-4 (dense, 0414) and GLM-4.5 to 4.7 (mixtures of experts, routed as DeepSeek V3's)."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models.decoder import decoder, everywhere, gated, queries_keys_values
from innerloop.harness.models.deepseek import EXPERTS, mixture
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Config, Stored, linear, norm


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    yield norm(f"{name}.input_layernorm", hidden)
    yield from queries_keys_values(config, f"{name}.self_attn", bias=bool(config.get("attention_bias")))
    yield norm(f"{name}.post_self_attn_layernorm", hidden)
    yield norm(f"{name}.post_attention_layernorm", hidden)
    yield from linear(f"{name}.mlp.gate_up_proj", 2 * inner, hidden)
    yield from linear(f"{name}.mlp.down_proj", hidden, inner)
    yield norm(f"{name}.post_mlp_layernorm", hidden)


def layer_moe(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden = config["hidden_size"]
    yield norm(f"{name}.input_layernorm", hidden)
    yield from queries_keys_values(config, f"{name}.self_attn", bias=bool(config.get("attention_bias")))
    if config.get("use_qk_norm"):
        yield norm(f"{name}.self_attn.q_norm", config["head_dim"])
        yield norm(f"{name}.self_attn.k_norm", config["head_dim"])
    yield norm(f"{name}.post_attention_layernorm", hidden)
    if number < config["first_k_dense_replace"]:
        yield from gated(f"{name}.mlp", hidden, config["intermediate_size"])
    else:
        yield from mixture(config, f"{name}.mlp", True)


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


def tensors_moe(config: Config) -> Iterator[Stored]:
    return decoder(config, layer_moe)


PARTLY_TURNED = {"partial_rotary_factor": 0.5}
GLM4 = Family("glm4", ("Glm4ForCausalLM",), "glm4", tensors, everywhere, PARTLY_TURNED)
GLM4_MOE = Family(
    "glm4-moe",
    ("Glm4MoeForCausalLM",),
    "glm4_moe",
    tensors_moe,
    everywhere,
    {**PARTLY_TURNED, "first_k_dense_replace": 1},
    required=("intermediate_size", *EXPERTS),
    routed=lambda config: (config["n_routed_experts"], config["num_experts_per_tok"]),
)
