"""DeepSeek V2, V3 and R1: latent attention (MLA), shared and routed experts behind some dense layers.

A token keeps its latent and one rotary key. For a prompt, keys and values are made from the latents; where a request
computes one position, its query is taken into the latent space instead, which costs more a pair and nothing for each
position of the context (DeepSeek-V2, arXiv 2405.04434, section 2.1.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models.decoder import decoder, gated, router
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import ATTENTION_GAIN, Attention, Config, Stored, linear, norm


def attending(config: Config, name: str) -> Iterator[Stored]:
    """The matrices of latent attention, and the norms between them."""
    hidden, heads, latent = config["hidden_size"], config["num_attention_heads"], config["kv_lora_rank"]
    plain, turned, values = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    bias, queries = bool(config.get("attention_bias")), config.get("q_lora_rank")
    if queries is None:
        yield from linear(f"{name}.q_proj", heads * (plain + turned), hidden)
    else:
        yield from linear(f"{name}.q_a_proj", queries, hidden, bias=bias)
        yield norm(f"{name}.q_a_layernorm", queries)
        yield from linear(f"{name}.q_b_proj", heads * (plain + turned), queries)
    yield from linear(f"{name}.kv_a_proj_with_mqa", latent + turned, hidden, bias=bias)
    yield norm(f"{name}.kv_a_layernorm", latent)
    yield from linear(f"{name}.kv_b_proj", heads * (plain + values), latent)
    yield from linear(f"{name}.o_proj", hidden, heads * values, bias=bias, gain=ATTENTION_GAIN)


def mixture(config: Config, name: str, corrected: bool) -> Iterator[Stored]:
    """The router, the routed experts and the shared ones, which are one block."""
    hidden, inner, count = config["hidden_size"], config["moe_intermediate_size"], config["n_routed_experts"]
    yield router(f"{name}.gate", count, hidden)
    if corrected:
        yield Stored(f"{name}.gate.e_score_correction_bias", (count,), "vector", value=0.0, dtype="float32")
    yield from gated(f"{name}.experts.{{}}", hidden, inner, experts=count)
    if config.get("n_shared_experts"):
        yield from gated(f"{name}.shared_experts", hidden, inner * config["n_shared_experts"])


def layer(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden = config["hidden_size"]
    yield norm(f"{name}.input_layernorm", hidden)
    yield from attending(config, f"{name}.self_attn")
    yield norm(f"{name}.post_attention_layernorm", hidden)
    if number < config["first_k_dense_replace"]:
        yield from gated(f"{name}.mlp", hidden, config["intermediate_size"])
    else:
        yield from mixture(config, f"{name}.mlp", config["topk_method"] == "noaux_tc")


def tensors(config: Config) -> Iterator[Stored]:
    return decoder(config, layer)


def attention(config: Config) -> list[Attention]:
    latent, turned = config["kv_lora_rank"], config["qk_rope_head_dim"]
    one = Attention(
        heads=config["num_attention_heads"],
        score=config["qk_nope_head_dim"] + turned,
        weighted=config["v_head_dim"],
        kept=latent + turned,
        split=1,
        decode_score=latent + turned,
        decode_weighted=latent,
    )
    return [one] * int(config["num_hidden_layers"])


LATENT = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
EXPERTS = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")


def family(name: str, architecture: str, model_type: str, topk_method: str) -> Family:
    return Family(
        name,
        (architecture,),
        model_type,
        tensors,
        attention,
        {"first_k_dense_replace": 0, "topk_method": topk_method},
        required=("intermediate_size", *LATENT, *EXPERTS),
        unwritten=("head_dim",),
        routed=lambda config: (config["n_routed_experts"], config["num_experts_per_tok"]),
    )


DEEPSEEK_V2 = family("deepseek-v2", "DeepseekV2ForCausalLM", "deepseek_v2", "greedy")
DEEPSEEK_V3 = family("deepseek-v3", "DeepseekV3ForCausalLM", "deepseek_v3", "noaux_tc")
