"""TensorRT-LLM's settings: the common ones in its own words, and what it made of them."""

from __future__ import annotations

from typing import Any

from innerloop.engines.contract import EngineInfo, Load, UnsupportedSetting
from innerloop.engines.support import versions
from innerloop.engines.support.refusals import OTHER_MODEL, by_setting, refuse, refuse_architecture, whole_argument
from innerloop.engines.support.shapes import keeps_fp8, kv_bytes_per_token

TITLE = "TensorRT-LLM"
VERSIONS = ("1.2", "1.2")
BLOCK_TOKENS = 32  # KvCacheConfig.tokens_per_block's default (llmapi/llm_args.py)
FP8_BLOCK = [128, 128]
DTYPES = {"HALF": "float16", "BF16": "bfloat16"}  # of bindings.DataType (_utils.py), by the common names
LACKING = dict.fromkeys(  # no file of _torch/models registers them
    ("Gemma2ForCausalLM", "DeepseekV2ForCausalLM", "Glm4ForCausalLM"), "has no such model in its PyTorch backend"
)
OVERLAPPED = (
    "overlap scheduler: a step returns the tokens of the batch launched one iteration earlier, and its time spans both"
)

ALONE = "the adapter steps one executor, in this process and on one device"
UNFOLLOWED = "the adapter cannot track how it changes a step"
RESERVED = {
    **dict.fromkeys(
        (
            "pipeline_parallel_size", "context_parallel_size", "moe_cluster_parallel_size", "moe_tensor_parallel_size",
            "moe_expert_parallel_size", "enable_attention_dp", "attention_dp_config", "enable_lm_head_tp_in_adp",
            "pp_partition", "cp_config", "gpus_per_node", "orchestrator_type", "num_postprocess_workers",
        ),
        ALONE,
    ),
    **dict.fromkeys(
        (
            "speculative_config", "decoding_config", "cache_transceiver_config", "kv_connector_config",
            "max_beam_width", "mm_encoder_only",
        ),
        UNFOLLOWED,
    ),
    **by_setting(
        dtype="dtype",
        tensor_parallel_size="tensor_parallel",
        max_seq_len="context_length",
        max_batch_size="max_batch_size",
        max_num_tokens="max_tokens_per_step",
        enable_chunked_prefill="chunked_prefill",
        cuda_graph_config="cuda_graphs",
    ),
    "stream_interval": "innerloop needs each token in the step that produced it",
    "backend": "the adapter steps the executor of the PyTorch backend",
    "model_kwargs": OTHER_MODEL,
    "model": "use --model or --weights DIR instead",
    "trust_remote_code": "use --trust-remote-code instead",
}  # fmt: skip
CACHE_RESERVED = by_setting(
    enable_block_reuse="prefix_caching",
    max_tokens="kv_cache_tokens",
    max_gpu_total_bytes="kv_cache_tokens",
    free_gpu_memory_fraction="kv_memory_fraction",
    dtype="kv_cache_dtype",
)  # of kv_cache_config, whose other fields may be given


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as arguments of LLM, then the user's own `engine_args`, which win.

    What the user gives of `kv_cache_config` is added to what the settings make of it.
    """
    s, quantization = load.settings, quantization_refusal(load)
    refuse_architecture(load, TITLE, LACKING)
    refuse(
        TITLE,
        s,
        (
            (
                "tensor_parallel",
                s["tensor_parallel"] != 1,
                "with more than one device runs its executors in other processes, which cannot be stepped from"
                " this one",
            ),
            ("quantization", quantization is not None, quantization or ""),
            ("dtype", s["dtype"] == "float32", "runs float16 or bfloat16; use --set dtype=bfloat16"),
        ),
    )
    arguments: dict[str, Any] = {
        "model": load.checkpoint,
        "backend": "pytorch",
        "skip_tokenizer_init": True,
        "trust_remote_code": load.trust_remote_code,
        "dtype": s["dtype"],
        "tensor_parallel_size": 1,
        "max_seq_len": s["context_length"],
        "max_batch_size": s["max_batch_size"],
        "max_num_tokens": s["max_tokens_per_step"],
    }
    if s["chunked_prefill"] is not None:
        arguments["enable_chunked_prefill"] = s["chunked_prefill"]
    if s["cuda_graphs"] is not None:
        sizes = {"max_batch_size": s["max_batch_size"], "enable_padding": True}
        arguments["cuda_graph_config"] = sizes if s["cuda_graphs"] else None
    return {**arguments, **load.engine_args, "kv_cache_config": cache_config(load)}


def cache_config(load: Load) -> dict[str, Any]:
    """`kv_cache_config`: what the settings make of it, and the other fields that the user gives.

    Raises:
        UnsupportedSetting: the user gives a field that a common setting becomes.
    """
    s, given = load.settings, load.engine_args.get("kv_cache_config", {})
    if not isinstance(given, dict):
        raise UnsupportedSetting("engine argument kv_cache_config: give a JSON object of its fields")
    for name in given:
        if name in CACHE_RESERVED:
            raise UnsupportedSetting(f"engine argument kv_cache_config.{name}: {CACHE_RESERVED[name]}")
    cache: dict[str, Any] = {"enable_block_reuse": s["prefix_caching"]}
    if keeps_fp8(s):
        cache["dtype"] = "fp8"
    if s["kv_cache_tokens"] is not None:
        block = whole_argument(given, "tokens_per_block", BLOCK_TOKENS, "kv_cache_config.")
        cache["max_tokens"] = -(-s["kv_cache_tokens"] // block) * block  # it rounds down to whole blocks
    elif s["kv_memory_fraction"] is not None:
        cache["free_gpu_memory_fraction"] = s["kv_memory_fraction"]  # what the weights take is known on the device
    return {**cache, **given}


def quantization_refusal(load: Load) -> str | None:
    """Why TensorRT-LLM cannot run the weights as they are stored; None if it can.

    Of what config.json says of itself, `load_hf_quant_config` (_torch/model_config.py) knows FP8 in blocks and MXFP4:
    anything else is loaded as if it were not quantized, without a word.
    """
    stored = load.config.get("quantization_config")
    if stored is None:
        asked = load.settings["quantization"] is not None
        return "runs quantized checkpoints only as stored" if asked else None
    method = stored.get("quant_method")
    if method == "fp8" and stored.get("weight_block_size") == FP8_BLOCK:
        # FP8BlockScalesLinearMethod.apply (_torch/modules/linear.py) asserts it
        return None if load.settings["dtype"] == "bfloat16" else "runs block-wise FP8 weights only in bfloat16"
    if method == "mxfp4":
        return None
    return (
        "supports only block-wise FP8 weights with blocks of 128 x 128; it would silently load any others as "
        "unquantized"
    )


def engine_info(executor: Any, version: str, arguments: dict[str, Any], load: Load) -> EngineInfo:
    """What a loaded `PyExecutor` says of itself.

    Raises:
        UnsupportedSetting: it has loaded quantized weights as unquantized ones.
    """
    args, model, manager = executor.llm_args, executor.model_engine, executor.kv_cache_manager
    ranks = args.tensor_parallel_size
    dtype = str(model.dtype).removeprefix("torch.")
    kept = DTYPES.get(manager.dtype.name, manager.dtype.name.lower())
    stats = manager.get_kv_cache_stats()
    tokens = stats.max_num_blocks * stats.tokens_per_block or None  # KVCacheManagerV2 counts no blocks
    known = kept == dtype or kept.startswith("fp8")
    token = kv_bytes_per_token(load.config, kept, ranks) * ranks if known else None
    algorithm = model.model.model_config.quant_config.quant_algo
    if load.settings["quantization"] is not None and algorithm is None:
        raise UnsupportedSetting(
            f"quantization={load.settings['quantization']}: TensorRT-LLM loaded the weights as unquantized"
        )
    notes = ["sampling is greedy: TensorRT-LLM does not accept a seed", *versions.notes(TITLE, version, VERSIONS)]
    if not executor.disable_overlap_scheduler:
        notes.append(OVERLAPPED)
    return EngineInfo(
        version=version,
        stepping="observed",
        effective={
            "dtype": dtype,
            "quantization": None if algorithm is None else str(algorithm).lower(),
            "tensor_parallel": ranks,
            # With overlap the executor's own is one more (py_executor_creator.py); a small KV cache makes it less.
            "context_length": min(executor.max_seq_len, model.max_seq_len),
            "max_batch_size": executor.max_batch_size,
            "max_tokens_per_step": model.max_num_tokens,
            "kv_cache_tokens": tokens,
            "kv_cache_dtype": kept,
            "kv_block_tokens": stats.tokens_per_block or None,
            "prefix_caching": executor.enable_kv_cache_reuse,
            "chunked_prefill": model.attn_runtime_features.chunked_prefill,
            "cuda_graphs": args.cuda_graph_config is not None,
            "async_scheduling": not executor.disable_overlap_scheduler,
            "attention_backend": args.attn_backend,
            "seed": None,
        },
        native=arguments,
        kv_cache_tokens=tokens,
        kv_cache_bytes=tokens * token if tokens and token else None,
        weights_bytes=sum(p.numel() * p.element_size() for p in model.model.parameters()) or None,
        notes=tuple(notes),
        unreported=() if tokens else ("kv_usage",),
    )
