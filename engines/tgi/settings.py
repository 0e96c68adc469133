"""What the common settings become for TGI's Python server, and for the batching that stands for its router's."""

from __future__ import annotations

from typing import Any

from innerloop.engines.contract import Load, UnsupportedSetting
from innerloop.engines.support.refusals import by_setting, refuse
from innerloop.engines.support.shapes import fp8_in_blocks, is_quantized, keeps_fp8
from innerloop.engines.tgi.batches import MAX_WAITING_TOKENS, WAITING_SERVED_RATIO

TITLE = "TGI"
RULE = ("waiting_served_ratio", "max_waiting_tokens")  # the numbers of the router's rule, which may be given
SCHEDULER_LIMITS = ("max_batch_size", "max_tokens_per_step", "kv_cache_tokens", *RULE)  # what its router would be told
RESERVED = {
    "speculate": "the adapter cannot track how it changes a step",
    "sharded": "the adapter steps one process, on one device",
    "lora_adapter_ids": "TGI loads adapters in its server, which does not run here",
    **by_setting(
        quantize="quantization",
        dtype="dtype",
        max_input_tokens="max_tokens_per_step",
        max_batch_size="max_batch_size",
        max_tokens_per_step="max_tokens_per_step",
        kv_cache_tokens="kv_cache_tokens",
        kv_cache_dtype="kv_cache_dtype",
    ),
    "model_id": "use --model or --weights DIR instead",
    "trust_remote_code": "use --trust-remote-code instead",
}


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as arguments of `get_model`, with the limits of the adapter's batching beside them, then the
    user's own `engine_args`, which win."""
    s, cpu = load.settings, load.device == "cpu"
    if fp8_in_blocks(load.config):  # moe_kernels (layers/fp8.py), which only Dockerfile_amd builds
        raise UnsupportedSetting(
            "quantization=fp8: TGI has kernels for block-wise FP8 weights only on AMD GPUs; use weights with one "
            "scale per output channel (llama3-8b-fp8-channel)"
        )
    refuse(
        TITLE,
        s,
        (
            ("quantization", cpu and s["quantization"] is not None, "supports only unquantized checkpoints on a CPU"),
            ("tensor_parallel", s["tensor_parallel"] != 1, "is stepped in one process, on one device"),
            ("prefix_caching", s["prefix_caching"], "keeps its prefix cache in its router, which does not run here"),
            ("chunked_prefill", bool(s["chunked_prefill"]), "splits prompts in its router, which does not run here"),
            ("cuda_graphs", cpu and bool(s["cuda_graphs"]), "has no CUDA graphs on a CPU"),
            (
                "kv_memory_fraction",
                cpu and s["kv_memory_fraction"] is not None,
                "accepts only kv_cache_tokens on a CPU",
            ),
            ("kv_cache_dtype", cpu and keeps_fp8(s), "keeps the KV cache in the model's dtype on a CPU"),
            (
                "dtype",
                s["dtype"] == "float32" and not cpu,
                "runs float16 or bfloat16 on a GPU; use --set dtype=bfloat16",
            ),
        ),
    )
    arguments: dict[str, Any] = {
        "model_id": load.checkpoint,
        "lora_adapter_ids": None,
        "revision": None,
        "sharded": False,
        "quantize": None if is_quantized(load.config) else s["quantization"],
        "speculate": None,
        "dtype": None if s["dtype"] == "float32" else s["dtype"],  # float32 is its own choice on a CPU, and unnameable
        "kv_cache_dtype": "fp8_e4m3fn" if keeps_fp8(s) else None,
        "trust_remote_code": load.trust_remote_code,
        "max_input_tokens": s["max_tokens_per_step"],
        "max_batch_size": s["max_batch_size"],
        "max_tokens_per_step": s["max_tokens_per_step"],
        "kv_cache_tokens": s["kv_cache_tokens"],
        "waiting_served_ratio": WAITING_SERVED_RATIO,
        "max_waiting_tokens": MAX_WAITING_TOKENS,
    }
    return {**arguments, **load.engine_args}


def apply_memory_limits(flash: Any, settings: dict[str, Any]) -> None:
    """Sets what TGI's launcher passes by environment variable, before the model is made."""
    if settings["kv_memory_fraction"] is not None:
        flash.TGI_WIGGLE_ROOM = settings["kv_memory_fraction"]
    if settings["cuda_graphs"] is False:
        flash.CUDA_GRAPHS = None
