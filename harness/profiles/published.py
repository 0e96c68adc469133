"""A config.json as it is published, in the words of a model profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from innerloop.harness.cli.errors import Refused
from innerloop.harness.models.families import BY_ARCHITECTURE, BY_MODEL_TYPE
from innerloop.harness.models.fields import wrong_parts
from innerloop.harness.profiles.types import DType
from innerloop.harness.profiles.validation import Fields

SHAPE = (  # what a profile and config.json call by one name, and the tensors follow from
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
)
SAME = (*SHAPE, "max_position_embeddings", "rms_norm_eps")  # by one name
OLDER = {  # what some families call them
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "max_position_embeddings": ("n_positions", "max_sequence_length", "seq_length"),
}
SPECIAL = ("bos_token_id", "eos_token_id")
APART = ("architectures", "quantization_config", "text_config", "vision_config", "auto_map", "transformers_version")


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's configuration inside of a multimodal one, or the whole."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """The architecture that a model is run as: its own, or that of the text part of a multimodal one."""
    named = config.get("architectures")
    own = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None
    if own in BY_ARCHITECTURE:
        return own
    for model_type in (text_part(config).get("model_type"), config.get("model_type")):
        if model_type in BY_MODEL_TYPE:
            return BY_MODEL_TYPE[model_type].architectures[0]
    return own


def profile_fields(config: Mapping[str, Any]) -> Fields:
    """What a config.json says of a profile's fields, with the rest of its text part under `config`.

    Raises:
        Refused: a part of it that is read here is not of its kind.
    """
    for wrong in wrong_parts(config):
        raise Refused(wrong)
    text = text_part(config)
    fields: Fields = {"config": {key: value for key, value in text.items() if key not in APART}}
    fields |= {name: value for name in SAME if (value := first(text, name, *OLDER.get(name, ()))) is not None}
    fields |= {name: text.get(name, config.get(name)) for name in SPECIAL if name in text or name in config}
    dtypes = [part.get(key) for part in (text, config) for key in ("dtype", "torch_dtype")]
    found: Fields = {
        "architecture": architecture_of(config),
        "dtype": next((name for name in dtypes if name in get_args(DType)), None),
        **rope(text),
        "quantization": quantization(config.get("quantization_config") or text.get("quantization_config")),
    }
    return {**fields, **{name: value for name, value in found.items() if value is not None}}


def first(config: Mapping[str, Any], *names: str) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def rope(text: Mapping[str, Any]) -> Fields:
    """The rotary embedding, from its older spelling or from `rope_parameters`; of layers that see everything where
    there are several."""
    newer = text.get("rope_parameters") or {}
    newer = newer["full_attention"] if isinstance(newer.get("full_attention"), dict) else newer
    kind = newer.get("rope_type", "default")
    scaling = {key: value for key, value in newer.items() if key not in ("rope_theta", "partial_rotary_factor")}
    theta = text.get("rope_theta", newer.get("rope_theta"))
    return {
        "rope_theta": float(theta) if isinstance(theta, int) else theta,
        "rope_scaling": text.get("rope_scaling") or (scaling if kind != "default" else None),
    }


def quantization_method(config: Any) -> str | None:
    """The method that a config.json's quantization_config speaks of, in the words of the model profiles."""
    config = config if isinstance(config, dict) else {}
    method = config.get("quant_method")
    if method != "compressed-tensors":
        return method
    kinds = [(w.get("type"), w.get("num_bits")) if isinstance(w, dict) else None for w in compressed(config)]
    return "fp8" if kinds and all(kind == ("float", 8) for kind in kinds) else method


def packed_layout(stored: Mapping[str, Any]) -> dict[str, object]:
    """Of weights that compressed-tensors packs as whole numbers: `bits`, `group_size` and `zero_point`, as far as the
    configuration says them; `format` if it is another one."""
    first_group = next((one for one in compressed(stored) if isinstance(one, dict)), {})
    form, strategy = stored.get("format"), first_group.get("strategy")
    if form != "pack-quantized" or first_group.get("type") != "int" or strategy not in (None, "group"):
        shared = f", {strategy}" if form == "pack-quantized" else ""
        return {"format": f"{form}, {first_group.get('num_bits')}-bit {first_group.get('type')}{shared}"}
    symmetric = first_group.get("symmetric", True)
    found = {"bits": first_group.get("num_bits"), "group_size": first_group.get("group_size")}
    return {**{name: value for name, value in found.items() if value is not None}, "zero_point": not symmetric}


def compressed(config: Mapping[str, Any]) -> list[Any]:
    """How each group of a compressed-tensors configuration stores its weights."""
    groups = config.get("config_groups")
    held = groups.values() if isinstance(groups, dict) else ()
    return [group.get("weights") if isinstance(group, dict) else None for group in held]


def block_structure(stored: Mapping[str, Any]) -> Any:
    """The blocks that have scales of their own in a compressed-tensors configuration; None if there are none."""
    return next((one.get("block_structure") for one in compressed(stored) if isinstance(one, dict)), None)


def quantization(stored: Any) -> Fields | None:
    """A quantization_config in the words of a profile's `quantization`."""
    if not isinstance(stored, dict):
        return None
    method = quantization_method(stored)
    found: Fields = {"method": method}
    if method == "fp8":
        blocks = stored.get("weight_block_size") or block_structure(stored)
        return {**found, "bits": 8, "block_size": blocks[0] if isinstance(blocks, list) and blocks else None}
    if method == "compressed-tensors":
        layout = packed_layout(stored)
        other = layout.pop("format", None)
        return {**found, **layout} if other is None else {"method": f"{method} ({other})"}
    bits, group = first(stored, "bits", "w_bit"), first(stored, "group_size", "q_group_size")
    found |= {name: value for name, value in (("bits", bits), ("group_size", group)) if value is not None}
    if method == "gptq":
        return {**found, "zero_point": stored.get("sym") is False}
    if method == "awq":
        return {**found, "zero_point": stored.get("zero_point", True), "version": str(stored.get("version", "gemm"))}
    return found
