"""What the keys of a config.json are: those of every model's, and those that families compute with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from innerloop.harness.models.stored import Config

MAPPINGS = ("quantization_config", "rope_parameters", "rope_scaling", "text_config")
WHOLE = {  # a whole number of at least this, or null
    "decoder_sparse_step": 1, "first_k_dense_replace": 0, "max_window_layers": 0, "moe_intermediate_size": 0,
    "n_routed_experts": 0, "n_shared_experts": 0, "num_experts": 0, "num_experts_per_tok": 0, "num_local_experts": 0,
    "q_lora_rank": 1, "sliding_window": 0, "sliding_window_pattern": 1, "_sliding_window_pattern": 1,
}  # fmt: skip
NEEDED = ("decoder_sparse_step", "first_k_dense_replace")  # where they are written, null means nothing
NUMBERS = (
    "attn_logit_softcapping", "final_logit_softcapping", "partial_rotary_factor", "query_pre_attn_scalar",
    "rope_local_base_freq", "routed_scaling_factor",
)  # fmt: skip
SHOWN = 60  # letters of a wrong value
LISTS: dict[str, tuple[type, str]] = {"layer_types": (str, "names"), "mlp_only_layers": (int, "whole numbers")}


def wrong_parts(config: Config) -> Iterator[str]:
    """What is not of its key's kind, whatever the architecture, and what it must be."""
    text = config.get("text_config")
    for place, part in (("", config), ("text_config.", text if isinstance(text, dict) else {})):
        for name in MAPPINGS:
            if part.get(name) is not None and not isinstance(part[name], dict):
                yield f"{place}{name} is {_shown(part[name])}; it must be a mapping"
        if not isinstance(part.get("model_type"), (str, type(None))):
            yield f"{place}model_type is {_shown(part['model_type'])}; it must be a name"
        names = part.get("architectures")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            yield f"{place}architectures is {_shown(names)}; it must be a list of names"


def wrong_fields(config: Config) -> Iterator[str]:
    """What each value is that is not of the kind that the families take its key for, and what it must be; other
    architectures may have other kinds (EXAONE's sliding_window_pattern is `LLLG`)."""
    for name, value in config.items():
        if (value is not None or name in NEEDED) and (must := _must(name, value)):
            yield f"config.{name} is {_shown(value)}; it must be {must}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _must(name: str, value: Any) -> str | None:
    if name in WHOLE and not (_is(value, int) and value >= WHOLE[name]):
        return f"a whole number of at least {WHOLE[name]}"
    if name in NUMBERS and not (_is(value, int) or _is(value, float)):
        return "a number"
    if name in LISTS and not (isinstance(value, list) and all(_is(one, LISTS[name][0]) for one in value)):
        return f"a list of {LISTS[name][1]}"
    return None


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
