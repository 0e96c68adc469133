"""What the common settings become for OpenVINO GenAI: fields of SchedulerConfig, properties of the CPU plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerloop.engines.contract import Load, Preparation
from innerloop.engines.openvino.scheduling import blocks_for
from innerloop.engines.support.refusals import by_setting, refuse

TITLE = "OpenVINO GenAI"
PRECISION = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
ARCHITECTURES = ("LlamaForCausalLM",)
MODEL = "model"  # the preparation's name
SCRIPT = str(Path(__file__).resolve().with_name("convert.py"))  # never imported here: it needs openvino

UNFOLLOWED = "the adapter cannot track how it changes a step"
RESERVED = {
    **dict.fromkeys(("draft_model", "prompt_lookup", "adapters"), UNFOLLOWED),
    **dict.fromkeys(
        ("use_cache_eviction", "cache_eviction_config", "use_sparse_attention", "sparse_attention_config"),
        "it skips part of the attention, so the run would compute less than other engines' runs",
    ),
    **dict.fromkeys(("KEY_CACHE_PRECISION", "VALUE_CACHE_PRECISION"), "use KV_CACHE_PRECISION, which sets both"),
    **by_setting(
        max_num_batched_tokens="max_tokens_per_step",
        max_num_seqs="max_batch_size",
        num_kv_blocks="kv_cache_tokens",
        cache_size="kv_cache_tokens",
        dynamic_split_fuse="chunked_prefill",
        enable_prefix_caching="prefix_caching",
        INFERENCE_PRECISION_HINT="dtype",
    ),
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "it is 0: activations are not quantized",
}


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of SchedulerConfig and, in upper case, as properties of the plugin, then the
    user's own `engine_args`, which win."""
    s = load.settings
    refuse(
        TITLE,
        s,
        (
            ("quantization", s["quantization"] is not None, "supports only unquantized checkpoints"),
            ("tensor_parallel", s["tensor_parallel"] != 1, "runs on one device here"),
            ("kv_memory_fraction", s["kv_memory_fraction"] is not None, "accepts only kv_cache_tokens on a CPU"),
            ("cuda_graphs", bool(s["cuda_graphs"]), "has no CUDA graphs"),
        ),
    )
    arguments: dict[str, Any] = {
        "max_num_batched_tokens": s["max_tokens_per_step"],
        "max_num_seqs": s["max_batch_size"],
        "enable_prefix_caching": s["prefix_caching"],
        "INFERENCE_PRECISION_HINT": PRECISION[s["dtype"]],
        "KV_CACHE_PRECISION": PRECISION[s["dtype"]],  # else it is u8
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    if s["chunked_prefill"] is not None:
        arguments["dynamic_split_fuse"] = s["chunked_prefill"]
    if s["kv_cache_tokens"] is not None:
        arguments["num_kv_blocks"] = blocks_for(s["kv_cache_tokens"])
    return {**arguments, **load.engine_args}


def preparation(load: Load) -> Preparation:
    """The checkpoint as OpenVINO IR, with the weights in the run's dtype."""
    dtype = load.settings["dtype"]
    return Preparation(
        MODEL,
        (SCRIPT, "{checkpoint}", "{output}", dtype),
        {"dtype": dtype},
        (f"convert.py CHECKPOINT {MODEL.upper()} {dtype}: the model as OpenVINO IR",),
    )


def split_by_kind(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fields of SchedulerConfig, properties of the plugin, whose names are in upper case)."""
    properties = {name: value for name, value in arguments.items() if name.isupper()}
    return {name: value for name, value in arguments.items() if name not in properties}, properties
