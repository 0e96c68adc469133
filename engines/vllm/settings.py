"""vLLM's settings: the common ones in its own words, and what it made of them."""

from __future__ import annotations

import inspect
from typing import Any

from innerloop.engines.contract import EngineInfo, Load, UnsupportedSetting
from innerloop.engines.support import versions
from innerloop.engines.support.refusals import OTHER_MODEL, by_setting, whole_argument
from innerloop.engines.support.shapes import is_quantized, keeps_fp8, kv_bytes_per_token
from innerloop.engines.vllm.cpu import latent_attention, refuse_set_acceptance, wrong_rotation

VERSIONS = ("0.26", "0.33")
UNFOLLOWED = "the adapter cannot track how it changes a step"
OUT_OF_SIGHT = ("async", "http")  # layers whose steps are only seen from outside
CHANGES_STEPS = ("data_parallel_size", "pipeline_parallel_size", "prefill_context_parallel_size")
ACROSS_MACHINES = (  # by which ranks may be on other machines
    "distributed_executor_backend", "data_parallel_backend", "nnodes", "data_parallel_size_local",
    "data_parallel_address", "data_parallel_rank", "data_parallel_start_rank", "data_parallel_external_lb",
    "data_parallel_multi_port_external_lb", "data_parallel_hybrid_lb",
)  # fmt: skip
RESERVED = {
    "kv_transfer_config": UNFOLLOWED,
    **by_setting(
        dtype="dtype",
        quantization="quantization",
        tensor_parallel_size="tensor_parallel",
        max_model_len="context_length",
        max_num_seqs="max_batch_size",
        max_num_active_seqs="max_batch_size",
        max_num_batched_tokens="max_tokens_per_step",
        max_num_scheduled_tokens="max_tokens_per_step",
        enable_prefix_caching="prefix_caching",
        enable_chunked_prefill="chunked_prefill",
        enforce_eager="cuda_graphs",
        kv_cache_memory_bytes="kv_cache_tokens",
        kv_cache_dtype="kv_cache_dtype",
        gpu_memory_utilization="kv_memory_fraction",
        seed="seed",
    ),
    **dict.fromkeys(("hf_overrides", "hf_config_path", "model_class_overrides"), OTHER_MODEL),
    "device_ids": "choose the GPUs with CUDA_VISIBLE_DEVICES instead",
    "stream_interval": "innerloop needs each token in the step that produced it",
    "model": "use --model or --weights DIR instead",
    "trust_remote_code": "use --trust-remote-code instead",
}


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings in vLLM's words, then the user's own `engine_args`, which win.

    They are the same on every layer, but that the layers above `core` have a tokenizer, since they detokenize.
    """
    s = load.settings
    cpu = load.device == "cpu"
    refuse_changed_steps(load)
    refuse_set_acceptance(load)
    if cpu and s["cuda_graphs"]:
        raise UnsupportedSetting("cuda_graphs=true: a CPU has no CUDA graphs; leave it unset")
    if cpu and s["quantization"] == "fp8" and not is_quantized(load.config):
        raise UnsupportedSetting(
            "quantization=fp8: vLLM's CPU build cannot quantize while loading; choose a model with FP8 weights"
        )
    arguments: dict[str, Any] = {
        "model": load.checkpoint,
        "skip_tokenizer_init": load.layer == "core",
        "trust_remote_code": load.trust_remote_code,
        "dtype": s["dtype"],
        # Named, a stored method would get its plain kernels; found in config.json, the best ones (awq_marlin, say).
        "quantization": None if is_quantized(load.config) else s["quantization"],
        "tensor_parallel_size": s["tensor_parallel"],
        "max_model_len": s["context_length"],
        "max_num_seqs": s["max_batch_size"],
        "max_num_batched_tokens": s["max_tokens_per_step"],
        "enable_prefix_caching": s["prefix_caching"],
        "seed": s["seed"],
        "disable_log_stats": True,
    }
    if s["chunked_prefill"] is not None:
        arguments["enable_chunked_prefill"] = s["chunked_prefill"]
    if cpu or s["cuda_graphs"] is False:
        arguments["enforce_eager"] = True
    fp8 = keeps_fp8(s)
    if fp8:
        arguments["kv_cache_dtype"] = "fp8"
    if s["kv_cache_tokens"] is not None:
        token = kv_bytes_per_token(load.config, "fp8" if fp8 else s["dtype"], s["tensor_parallel"])
        arguments["kv_cache_memory_bytes"] = s["kv_cache_tokens"] * token
    elif s["kv_memory_fraction"] is not None:
        arguments["gpu_memory_utilization"] = s["kv_memory_fraction"]
    return {**arguments, **latent_attention(load), **load.engine_args}


def refuse_changed_steps(load: Load) -> None:
    """Raises UnsupportedSetting for data, pipeline and prefill context parallelism where each step is watched: on the
    layers above, what a step is made of is not asked. And for a number of replicas, stages or parts that is none."""
    for name in CHANGES_STEPS:
        if name in load.engine_args and load.layer not in OUT_OF_SIGHT:
            raise UnsupportedSetting(f"engine argument {name}: {UNFOLLOWED}; the async and http layers accept it")
        whole_argument(load.engine_args, name, 1)


def engine_config(arguments: dict[str, Any]) -> Any:
    """vLLM's `VllmConfig` of the arguments.

    What vLLM would fill in by who asks (the largest batch and step) is always given, so that it is the same everywhere.

    Raises:
        UnsupportedSetting: this version has no such argument.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext

    check_known(arguments)
    return EngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS)


def check_known(arguments: dict[str, Any]) -> None:
    """Raises UnsupportedSetting for an argument that this version of vLLM does not have."""
    import vllm
    from vllm.engine.arg_utils import EngineArgs

    known = inspect.signature(EngineArgs).parameters
    versions.check_known(arguments, known, f"vLLM {vllm.__version__} has no engine argument")


def effective(config: Any) -> dict[str, Any]:
    """The common settings as a `VllmConfig` has them once its engine is loaded, as plain data.

    `attention_backend` is the model runner's to say, `process_hops` the layer's.
    """
    model, cache, sched = config.model_config, config.cache_config, config.scheduler_config
    drafts = config.speculative_config
    blocks, block = cache.num_gpu_blocks, cache.block_size
    mode = getattr(getattr(config.compilation_config, "cudagraph_mode", None), "name", None)
    on_cpu = config.device_config.device_type == "cpu"
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": model.quantization,
        "tensor_parallel": config.parallel_config.tensor_parallel_size,
        "context_length": model.max_model_len,
        "max_batch_size": sched.max_num_seqs,
        "max_tokens_per_step": sched.max_num_batched_tokens,
        "kv_cache_tokens": blocks * block if blocks else None,
        "kv_cache_dtype": str(cache.cache_dtype),
        "kv_block_tokens": block,
        "prefix_caching": cache.enable_prefix_caching,
        "chunked_prefill": sched.enable_chunked_prefill,
        "cuda_graphs": None if on_cpu else not model.enforce_eager and mode != "NONE",  # a backend may have none
        "cuda_graph_mode": mode,
        "async_scheduling": bool(getattr(sched, "async_scheduling", False)),
        "attention_backend": None,
        "speculation": None if drafts is None else f"{drafts.method}, {drafts.num_speculative_tokens} tokens",
        "executor": str(config.parallel_config.distributed_executor_backend),
        "seed": model.seed,
    }


def engine_info(
    version: str,
    found: dict[str, Any],
    arguments: dict[str, Any],
    load: Load,
    *,
    runner: Any = None,
    process_hops: int = 0,
    notes: tuple[str, ...] = (),
) -> EngineInfo:
    """What is told of a loaded engine; `found` is `effective`'s, `runner` the model runner where it can be seen.

    `process_hops` counts the walls between processes that a request crosses from here to the engine core; an executor
    with worker processes of its own adds one.
    """
    tokens, ranks, kept = found["kv_cache_tokens"], found["tensor_parallel"], found["kv_cache_dtype"]
    known = tokens is not None and (kept == "auto" or kept.startswith("fp8"))
    kept = found["dtype"] if kept == "auto" else kept
    token = kv_bytes_per_token(load.config, kept, ranks) * ranks if known else None
    return EngineInfo(
        version=version,
        effective={
            **found,
            "attention_backend": attention_backend(runner),
            "process_hops": process_hops + (found["executor"] != "uni"),
        },
        native=arguments,
        kv_cache_tokens=tokens,
        kv_cache_bytes=None if token is None else tokens * token,
        weights_bytes=weights_bytes(runner),
        notes=(*versions.notes("vLLM", version, VERSIONS), *wrong_rotation(load), *notes),
    )


def model_runner(core: Any) -> Any:
    """The model runner in this process; None where the workers are processes of their own."""
    worker = getattr(core.model_executor, "driver_worker", None)
    return getattr(getattr(worker, "worker", worker), "model_runner", None)


def weights_bytes(runner: Any) -> int | None:
    """What loading the model took on the device; the CPU's runner, which repacks its weights, does not count it."""
    return getattr(runner, "model_memory_usage", None) or None


def attention_backend(runner: Any) -> str | None:
    """The backend that the model runner chose; None where it cannot be seen or this version keeps it elsewhere."""
    groups: Any = getattr(runner, "attn_groups", None)
    try:
        return groups[0][0].backend.get_name()
    except (TypeError, IndexError, AttributeError):
        return None
