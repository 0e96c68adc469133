"""Gemma 2, and the text part of Gemma 3: four norms a layer, to whose weights one is added, and windows."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.models.decoder import by_type, decoder, gated, layer_types, queries_keys_values
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Attention, Config, Stored, norm

BLOCKS = ("post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


def layer_2(config: Config, name: str, number: int) -> Iterator[Stored]:
    hidden, bias = config["hidden_size"], bool(config.get("attention_bias"))
    yield norm(f"{name}.input_layernorm", hidden, 0.0)
    yield from queries_keys_values(config, f"{name}.self_attn", bias=bias, out_bias=bias)
    for block in BLOCKS:
        yield norm(f"{name}.{block}", hidden, 0.0)
    yield from gated(f"{name}.mlp", hidden, config["intermediate_size"])


def layer_3(config: Config, name: str, number: int) -> Iterator[Stored]:
    yield from layer_2(config, name, number)
    yield norm(f"{name}.self_attn.q_norm", config["head_dim"], 0.0)
    yield norm(f"{name}.self_attn.k_norm", config["head_dim"], 0.0)


def tensors_2(config: Config) -> Iterator[Stored]:
    return decoder(config, layer_2, 0.0)


def tensors_3(config: Config) -> Iterator[Stored]:
    return decoder(config, layer_3, 0.0)


def attention_2(config: Config) -> list[Attention]:
    return by_type(config, layer_types(config, 2))


def attention_3(config: Config) -> list[Attention]:
    """Every sixth layer sees the whole context, unless config.json says otherwise."""
    pattern = config.get("_sliding_window_pattern") or config.get("sliding_window_pattern") or 6
    return by_type(config, layer_types(config, pattern))


LEFT_OUT_3 = {  # by the published multimodal models, for transformers' Gemma3TextConfig to fill in
    "tie_word_embeddings": True,
    "sliding_window": 4096,
    "hidden_activation": "gelu_pytorch_tanh",
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
}
GEMMA2 = Family(
    "gemma2",
    ("Gemma2ForCausalLM",),
    "gemma2",
    tensors_2,
    attention_2,
    {"tie_word_embeddings": True, "sliding_window": 4096, "hidden_activation": "gelu_pytorch_tanh"},
)
GEMMA3 = Family(
    "gemma3",
    ("Gemma3ForCausalLM",),
    "gemma3_text",
    tensors_3,
    attention_3,
    LEFT_OUT_3,
)
