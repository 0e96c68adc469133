"""A tiny configuration of each family, in config.json's words."""

from __future__ import annotations

from typing import Any

from innerloop.harness.profiles.models import ModelProfile

BASE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "intermediate_size": 96,
    "vocab_size": 300,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
TIED = {"tie_word_embeddings": True}
LATENT = {"kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12, "head_dim": None}
ROUTED = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1}
FOUR = {"num_local_experts": 4, "num_experts_per_tok": 2}
TINY: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {},
    "LlamaForCausalLM tied": {**TIED, "attention_bias": True, "mlp_bias": True},
    "MistralForCausalLM": {"sliding_window": 32},
    "Qwen2ForCausalLM": {**TIED, "head_dim": None},
    "Qwen3ForCausalLM": TIED,
    "Qwen3MoeForCausalLM": {
        **{"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": [0]},
        **{"decoder_sparse_step": 1, "norm_topk_prob": True},
    },
    "MixtralForCausalLM": FOUR,
    "Gemma2ForCausalLM": {**TIED, "sliding_window": 32},
    "Gemma3ForCausalLM": {
        **TIED,
        **{"sliding_window": 32, "num_hidden_layers": 6, "rope_theta": 1e6, "rope_local_base_freq": 10000.0},
    },
    "Phi3ForCausalLM": {"head_dim": None},
    "DeepseekV2ForCausalLM": {
        **{**LATENT, **ROUTED, "q_lora_rank": None, "n_shared_experts": 2},
        **{"topk_method": "greedy", "n_group": 1, "topk_group": 1},
    },
    "DeepseekV3ForCausalLM": {
        **{**LATENT, **ROUTED, "q_lora_rank": 24, "n_shared_experts": 1},
        **{"topk_method": "noaux_tc", "n_group": 1, "topk_group": 1},
    },
    "GptOssForCausalLM": {**FOUR, "sliding_window": 32},
    "Glm4ForCausalLM": {"attention_bias": True},
    "Glm4MoeForCausalLM": {
        **{**ROUTED, "n_shared_experts": 1, "attention_bias": True, "use_qk_norm": True},
        **{"n_group": 1, "topk_group": 1},
    },
}


def tiny(name: str, **changes: Any) -> ModelProfile:
    """The tiny model of a family, by a key of TINY."""
    config = {**BASE, **TINY[name], **changes}
    config = {key: value for key, value in config.items() if value is not None or key == "q_lora_rank"}
    whole = {"architectures": [name.split()[0]], **config}
    return ModelProfile.model_validate({"name": "tiny", "config": whole, "dtype": "float32"})
