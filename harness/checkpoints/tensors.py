"""What a model's checkpoint holds, from the profile alone: its config.json, and every tensor's name, shape and shard.

What a linear layer becomes on disk is its weight format's concern; the rest of the model is the same for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from innerloop.harness.checkpoints.formats import Fill, Linear, Tensor, linear_format, mxfp4, quantization_config
from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.models.families import BY_ARCHITECTURE
from innerloop.harness.models.family import Family
from innerloop.harness.models.routing import deviations, shares
from innerloop.harness.models.stored import Stored
from innerloop.harness.store.versions import Document

if TYPE_CHECKING:
    from innerloop.harness.profiles.models import ModelProfile

SHARD_BYTES = 2_000_000_000
WEIGHT_DTYPES = ("float32", "bfloat16", "float16")


def tensors_of(family: Family, model: ModelProfile, dtype: str, linear: Linear) -> Iterator[Tensor]:
    """The family's tensors as they lie on disk, not yet given to shards."""
    for stored in family.tensors(model.shape()):
        each = stored.experts if stored.experts and stored.kind != "stack" else 0
        for name in [stored.name.format(i) for i in range(each)] if each else [stored.name]:
            if stored.kind == "linear":
                outputs, inputs = stored.shape
                yield from linear(name, outputs, inputs, dtype, stored.gain)
            elif stored.kind == "stack" and model.quantization is not None:
                yield from mxfp4(name, stored.shape, stored.deviation or 0.0)
            else:
                yield Tensor(name, stored.shape, stored.dtype or dtype, fill(stored, model))


def fill(stored: Stored, model: ModelProfile) -> Fill:
    """What a tensor that is not packed holds."""
    if stored.deviation is None:
        return Fill("constant", stored.value)
    if stored.kind == "router" and model.routing_zipf:
        return Fill("rows", stored.deviation, skewed_rows(model, stored.name))
    return Fill("normal", stored.deviation)


def skewed_rows(model: ModelProfile, name: str) -> tuple[float, ...]:
    """What each row of a router is multiplied by; which experts are the popular ones differs from layer to layer."""
    family = model.family
    routed = family.routed(model.shape()) if family else None
    assert routed is not None, "the profile refuses a skew without routed experts"
    popular = deviations(shares(*routed, model.routing_zipf or 0.0))
    order = sorted(range(routed[0]), key=lambda expert: hashlib.sha256(f"{name}:{expert}".encode()).digest())
    rank = {expert: place for place, expert in enumerate(order)}
    return tuple(float(popular[rank[expert]]) for expert in range(routed[0]))


def config_json(model: ModelProfile, dtype: str) -> Document:
    """The content of config.json, with the rotary embedding and the dtype in both their old and their new spelling."""
    family, stored, shape = model.family, quantization_config(model), model.shape()
    scaling = rope_scaling(model)
    made = {
        "architectures": [model.architecture],
        "model_type": family.model_type if family else shape.get("model_type"),
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
        "rope_parameters": rope_parameters(model, scaling or {}),
        "rms_norm_eps": model.rms_norm_eps,
        "tie_word_embeddings": model.tie_word_embeddings,
        "bos_token_id": model.bos_token_id,
        "eos_token_id": model.eos_token_id,
        "torch_dtype": dtype,
        "dtype": dtype,
    }
    usual = {
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "pretraining_tp": 1,
        "use_cache": True,
    }
    rest = {**usual, **{name: value for name, value in shape.items() if name not in made}}
    dtypes = {name: made.pop(name) for name in ("torch_dtype", "dtype")}
    whole = {**made, **rest, **dtypes, **({"quantization_config": stored} if stored else {})}
    return {name: value for name, value in whole.items() if family is None or name not in family.unwritten}


def rope_scaling(model: ModelProfile) -> Document | None:
    """The scaling of the rotary embedding with both of its kind's names, `type` and `rope_type`."""
    if not model.rope_scaling:
        return None
    kind = model.rope_scaling.get("rope_type", model.rope_scaling.get("type"))
    older = {"type": kind} if "type" in model.rope_scaling else {}
    return {**model.rope_scaling, **older, "rope_type": kind}


def rope_parameters(model: ModelProfile, scaling: Document) -> Document:
    """The rotary embedding as transformers 5 spells it; by the type of the layer where they differ."""
    shape = model.shape()
    every = {"rope_type": "default", **scaling, "rope_theta": model.rope_theta}
    if "partial_rotary_factor" in shape:
        every["partial_rotary_factor"] = shape["partial_rotary_factor"]
    local = shape.get("rope_local_base_freq")
    if local is None:
        return every
    return {"full_attention": every, "sliding_attention": {"rope_type": "default", "rope_theta": local}}


def plan(model: ModelProfile, dtype: str, shard_bytes: int = SHARD_BYTES) -> list[Tensor]:
    """Every tensor of the model's checkpoint in the order of the files, each with its shard.

    A shard holds at most `shard_bytes` of data, or one tensor that is larger than that by itself.

    Raises:
        Refused: an architecture, number format or weight format that cannot be made.
    """
    family = model.family
    if family is None:
        raise Refused(
            f"cannot create a synthetic checkpoint for architecture {model.architecture!r}"
            f"{nearest(model.architecture, BY_ARCHITECTURE)}",
            "give a folder with its weights (--weights DIR); it will run, but without a roofline",
        )
    if dtype not in WEIGHT_DTYPES:
        raise Refused(f"a checkpoint's dtype cannot be {dtype!r}{nearest(dtype, WEIGHT_DTYPES)}")
    tensors, shard, filled = [], 1, 0
    for tensor in tensors_of(family, model, dtype, linear_format(model)):
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
