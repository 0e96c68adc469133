"""torch: transformers' continuous batching in this process: its batch processor, or its manager with a thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from innerloop.engines.contract import Adapter, EngineInfo, Load, Probe, Session, UnsupportedSetting
from innerloop.engines.support import versions
from innerloop.engines.support.refusals import by_setting, refuse, whole_argument
from innerloop.engines.support.shapes import keeps_fp8, kv_bytes_per_token
from innerloop.engines.torch.attention import SDPA, attention_for, configure_sdpa, refuse_latents, refuse_wide_mask
from innerloop.engines.torch.layers import CoreSession, EngineSession, TorchSession

UNREPORTED = ("sample_ns",)
PAGE_TOKENS = 256  # ContinuousBatchingConfig's default page
MODEL_ARGUMENTS = ("attn_implementation",)  # the model's, not the batching's
LAYERS: dict[str, Any] = {"core": CoreSession, "engine": EngineSession}


class TorchAdapter(Adapter):
    """Loads the model and its `ContinuousBatchingManager`, and hands them to the session of the load's layer.

    Asynchronous batching is off, so that a step's tokens are those of the batch that it computed.
    """

    name = "torch"
    title = "transformers"
    layers = tuple(LAYERS)
    log_probabilities = ("core",)
    versions = ("5.19", "5.24")
    reserved = {
        **dict.fromkeys(
            ("use_async_batching", "max_queue_size"), "the adapter sets it, since it steps one batch at a time"
        ),
        "return_logprobs": "use --verify, which requests them in a separate pass",
        **by_setting(
            max_requests_per_batch="max_batch_size",
            max_batch_tokens="max_tokens_per_step",
            allow_block_sharing="prefix_caching",
            use_cuda_graph="cuda_graphs",
            num_blocks="kv_cache_tokens",
            max_memory_percent="kv_memory_fraction",
            seed="seed",
        ),
    }

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return native_arguments(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        return UNREPORTED

    def imports(self, load: Load) -> None:
        import torch  # noqa: F401
        import transformers.generation.continuous_batching  # noqa: F401

    def open(self, load: Load) -> Session:
        import transformers
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        version = transformers.__version__
        with versions.explained(self.title, version, self.versions):
            arguments = native_arguments(load)
            known = {field.name for field in dataclasses.fields(ContinuousBatchingConfig)}
            versions.check_known(
                arguments,
                known | set(MODEL_ARGUMENTS),
                f"ContinuousBatchingConfig of {self.title} {version} has no field",
            )
            return open_session(arguments, load)


adapter = TorchAdapter()


def open_session(arguments: dict[str, Any], load: Load) -> Session:
    """Loads the model and its manager, and hands them to the layer's session."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig
    from transformers.generation.continuous_batching.requests import RequestStatus

    torch.manual_seed(load.settings["seed"])
    attention = arguments["attn_implementation"]
    notes = configure_sdpa(torch, load.device, attention)
    model = AutoModelForCausalLM.from_pretrained(
        load.checkpoint,
        dtype=getattr(torch, load.settings["dtype"]),
        attn_implementation=attention,
        local_files_only=True,
        trust_remote_code=load.trust_remote_code,
    ).to(load.device)
    if "max_memory_percent" in arguments and "max_memory_percent" not in load.engine_args:
        arguments["max_memory_percent"] = share_of_free(load.settings["kv_memory_fraction"], load.device)
    # The config is taken as it is: a model folder's own sampling settings must not make greedy decoding random.
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(
            **{name: value for name, value in arguments.items() if name not in MODEL_ARGUMENTS}
        ),
    )
    manager.batch_processor = manager._create_batch_processor()
    config = manager.continuous_batching_config
    if load.device == "cuda" and attention == SDPA:
        refuse_wide_mask(torch.__version__, config.max_batch_tokens, config.num_blocks * config.page_size)
    if any(config.cuda_graph_booleans):
        manager.warmup()  # one shape for each way of computing; others are captured when they first come
        torch.cuda.synchronize()
    session: TorchSession = LAYERS[load.layer](manager, RequestStatus.FINISHED, load.settings["context_length"])
    session.info = info_of(manager, model, arguments, load, notes)
    return session


def info_of(manager: Any, model: Any, arguments: dict[str, Any], load: Load, notes: Sequence[str]) -> EngineInfo:
    import transformers

    config, cache = manager.continuous_batching_config, manager.batch_processor.cache
    tokens, dtype = config.num_blocks * config.page_size, str(model.dtype).removeprefix("torch.")
    return EngineInfo(
        version=transformers.__version__,
        stepping="driven" if load.layer == "core" else "observed",
        effective={
            "dtype": dtype,
            "quantization": None,
            "tensor_parallel": 1,
            "context_length": load.settings["context_length"],
            "max_batch_size": config.max_requests_per_batch,
            "max_tokens_per_step": config.max_batch_tokens,
            "kv_cache_tokens": tokens,
            "kv_cache_dtype": dtype,
            "kv_block_tokens": config.page_size,
            "prefix_caching": bool(cache.use_prefix_sharing),
            "chunked_prefill": True,
            "cuda_graphs": None if load.device == "cpu" else any(config.cuda_graph_booleans),
            "async_scheduling": False,
            "attention_backend": model.config._attn_implementation,
            "process_hops": 0,
            "seed": load.settings["seed"],
        },
        native=arguments,
        kv_cache_tokens=tokens,
        kv_cache_bytes=tokens * kv_bytes_per_token(load.config, load.settings["dtype"]),
        weights_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        notes=(
            "sampling is part of the execute phase",
            *notes,
            *LAYERS[load.layer].notes,
            *versions.notes(adapter.title, transformers.__version__, adapter.versions),
        ),
        unreported=UNREPORTED,
    )


def share_of_free(fraction: float, device: str) -> float:
    """transformers' `max_memory_percent` is of the memory that is free once the model is loaded; the setting is of all
    memory, weights included."""
    if device == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
    else:
        with open("/proc/meminfo") as f:
            kib = {line.split(":")[0]: int(line.split()[1]) for line in f}
        free, total = kib["MemAvailable"], kib["MemTotal"]
    share = (fraction * total - (total - free)) / free
    if share <= 0:
        raise UnsupportedSetting(f"kv_memory_fraction={fraction:g}: the loaded model leaves no memory for the KV cache")
    return share


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of ContinuousBatchingConfig, then the user's own `engine_args`, which win."""
    s = load.settings
    refuse_latents(load)
    refuse(
        "it",
        s,
        (
            ("quantization", s["quantization"] is not None, "supports only unquantized checkpoints"),
            ("tensor_parallel", s["tensor_parallel"] != 1, "runs on one device here"),
            ("chunked_prefill", s["chunked_prefill"] is False, "always splits long prompts"),
            ("cuda_graphs", load.device == "cpu" and bool(s["cuda_graphs"]), "has no CUDA graphs on a CPU"),
            ("kv_cache_dtype", keeps_fp8(s), "keeps the KV cache in the model's dtype"),
        ),
    )
    arguments: dict[str, Any] = {
        "page_size": PAGE_TOKENS,
        "max_requests_per_batch": s["max_batch_size"],
        "max_batch_tokens": s["max_tokens_per_step"],
        "allow_block_sharing": s["prefix_caching"],
        "use_async_batching": False,
        "auto_switch_to_flash": False,  # else what runs depends on what else is installed
        "attn_implementation": load.engine_args.get("attn_implementation") or attention_for(load),
        "seed": s["seed"],
    }
    if load.log_probabilities:
        arguments["return_logprobs"] = True
    if s["cuda_graphs"] is not None:
        arguments["use_cuda_graph"] = s["cuda_graphs"]
    page = whole_argument(load.engine_args, "page_size", PAGE_TOKENS)
    if s["kv_cache_tokens"] is not None:
        arguments["num_blocks"] = -(-s["kv_cache_tokens"] // page)
    elif s["kv_memory_fraction"] is not None:
        arguments["max_memory_percent"] = s["kv_memory_fraction"]
    return {**arguments, **load.engine_args}
