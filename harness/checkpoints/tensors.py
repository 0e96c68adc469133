"""What a model's checkpoint holds, from the profile alone: its config.json, and every tensor's name, shape and shard.

What a linear layer becomes on disk is its weight format's concern; the rest of the model is the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from innerloop.harness.checkpoints.formats import Fill, Linear, Tensor, linear_format, quantization_config
from innerloop.harness.cli.errors import Refused, nearest

if TYPE_CHECKING:
    from innerloop.harness.profiles.models import ModelProfile

SHARD_BYTES = 2_000_000_000
ATTENTION_GAIN = 0.25  # at 1, attention's averages drown what tells positions apart: greedy output repeats one token
ARCHITECTURES = ("LlamaForCausalLM",)
WEIGHT_DTYPES = ("float32", "bfloat16", "float16")


def llama(model: ModelProfile, dtype: str, linear: Linear) -> Iterator[Tensor]:
    """The tensors of a LlamaForCausalLM in layer order, not yet given to shards."""
    hidden, inner = model.hidden_size, model.intermediate_size
    queries, keys = model.num_attention_heads * model.head_dim, model.num_key_value_heads * model.head_dim
    embedding = Tensor("model.embed_tokens.weight", (model.vocab_size, hidden), dtype, Fill("normal", hidden**-0.5))
    norm = Tensor("model.norm.weight", (hidden,), dtype, Fill("constant", 1.0))

    yield embedding
    for i in range(model.num_hidden_layers):
        layer = f"model.layers.{i}"
        yield Tensor(f"{layer}.input_layernorm.weight", (hidden,), dtype, norm.fill)
        yield from linear(f"{layer}.self_attn.q_proj", queries, hidden, dtype)
        yield from linear(f"{layer}.self_attn.k_proj", keys, hidden, dtype)
        yield from linear(f"{layer}.self_attn.v_proj", keys, hidden, dtype)
        yield from linear(f"{layer}.self_attn.o_proj", hidden, queries, dtype, ATTENTION_GAIN)
        yield Tensor(f"{layer}.post_attention_layernorm.weight", (hidden,), dtype, norm.fill)
        yield from linear(f"{layer}.mlp.gate_proj", inner, hidden, dtype)
        yield from linear(f"{layer}.mlp.up_proj", inner, hidden, dtype)
        yield from linear(f"{layer}.mlp.down_proj", hidden, inner, dtype)
    yield norm
    if not model.tie_word_embeddings:
        yield Tensor("lm_head.weight", embedding.shape, dtype, embedding.fill)


def config_json(model: ModelProfile, dtype: str) -> dict[str, Any]:
    """The content of config.json, with the rotary embedding and the dtype in both their old and their new spelling."""
    scaling = dict(model.rope_scaling) if model.rope_scaling else None
    stored = quantization_config(model)
    return {
        "architectures": [model.architecture],
        "model_type": "llama",
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_hidden_layers,
        "num_attention_heads": model.num_attention_heads,
        "num_key_value_heads": model.num_key_value_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.intermediate_size,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.max_position_embeddings,
        "rope_theta": model.rope_theta,
        "rope_scaling": scaling,
        "rope_parameters": {"rope_type": "default", **(scaling or {}), "rope_theta": model.rope_theta},
        "rms_norm_eps": model.rms_norm_eps,
        "tie_word_embeddings": model.tie_word_embeddings,
        "bos_token_id": model.bos_token_id,
        "eos_token_id": model.eos_token_id,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "pretraining_tp": 1,
        "use_cache": True,
        "torch_dtype": dtype,
        "dtype": dtype,
        **({"quantization_config": stored} if stored else {}),
    }


def plan(model: ModelProfile, dtype: str, shard_bytes: int = SHARD_BYTES) -> list[Tensor]:
    """Every tensor of the model's checkpoint in the order of the files, each with its shard.

    A shard holds at most `shard_bytes` of data, or one tensor that is larger than that by itself.

    Raises:
        Refused: an architecture, number format or weight format that cannot be made.
    """
    if model.architecture not in ARCHITECTURES:
        raise Refused(
            f"cannot create a synthetic checkpoint of architecture {model.architecture!r}"
            f"{nearest(model.architecture, ARCHITECTURES)}"
        )
    if dtype not in WEIGHT_DTYPES:
        raise Refused(f"a checkpoint's dtype cannot be {dtype!r}{nearest(dtype, WEIGHT_DTYPES)}")
    tensors, shard, filled = [], 1, 0
    for tensor in llama(model, dtype, linear_format(model)):
        if filled and filled + tensor.bytes > shard_bytes:
            shard, filled = shard + 1, 0
        filled += tensor.bytes
        tensors.append(Tensor(tensor.name, tensor.shape, tensor.dtype, tensor.fill, shard))
    return tensors


def shards(tensors: list[Tensor]) -> dict[str, list[Tensor]]:
    """The plan by file name: `model.safetensors` alone, or `model-0000i-of-0000n.safetensors`."""
    last = tensors[-1].shard
    files: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        file = "model.safetensors" if last == 1 else f"model-{tensor.shard:05d}-of-{last:05d}.safetensors"
        files.setdefault(file, []).append(tensor)
    return files
