"""torch: transformers' continuous batching in this process: its batch processor, or its manager with a thread."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from innerloop.engines.contract import Engine, EngineInfo, Load, Request, StepReport, UnsupportedSetting
from innerloop.engines.support import versions
from innerloop.engines.support.shapes import kv_bytes_per_token
from innerloop.engines.torch.attention import SDPA, refuse_wide_mask, settle
from innerloop.engines.torch.layers import CoreRung, EngineRung

TITLE = "transformers"
PAGE_TOKENS = 256  # ContinuousBatchingConfig's default page
OURS = ("attn_implementation",)  # the model's, not the batching's
RESERVED = {"use_async_batching", "max_queue_size"}
RUNGS: dict[str, Any] = {"core": CoreRung, "engine": EngineRung}


class Adapter(Engine):
    """Loads the model and its `ContinuousBatchingManager`, and hands every call to the rung of the load's layer.

    Asynchronous batching is off, so that a step's tokens are those of the batch that it computed.
    """

    name = "torch"
    layers = tuple(RUNGS)
    cannot_report = ("sample_ns",)
    versions: ClassVar[tuple[str, str]] = ("5.19", "5.23")

    def imports(self) -> str:
        import torch  # noqa: F401
        import transformers
        import transformers.generation.continuous_batching

        return transformers.__version__

    def load(self, load: Load) -> EngineInfo:
        import torch
        import transformers
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        with versions.explained(TITLE, transformers.__version__, self.versions):
            arguments = native_arguments(load)
            known = {field.name for field in dataclasses.fields(ContinuousBatchingConfig)}
            versions.check_known(
                arguments,
                known | set(OURS),
                f"ContinuousBatchingConfig of {TITLE} {transformers.__version__} has no field",
            )
            torch.manual_seed(load.settings["seed"])
            self._context_length = load.settings["context_length"]
            self._start(arguments, load)
            return self._info(transformers.__version__, arguments, load)

    def _start(self, arguments: dict[str, Any], load: Load) -> None:
        """Loads the model and its manager, and hands them to the rung."""
        attention = arguments["attn_implementation"]
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig
        from transformers.generation.continuous_batching.requests import RequestStatus

        self._said = settle(torch, load.device, attention)
        self._model = AutoModelForCausalLM.from_pretrained(
            load.checkpoint,
            dtype=getattr(torch, load.settings["dtype"]),
            attn_implementation=attention,
            local_files_only=True,
            trust_remote_code=load.trust_remote_code,
        ).to(load.device)
        if "max_memory_percent" in arguments and "max_memory_percent" not in load.engine_args:
            arguments["max_memory_percent"] = share_of_free(load.settings["kv_memory_fraction"], load.device)
        # The config is taken as it is: a model folder's own sampling settings must not make greedy decoding random.
        self._manager = self._model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(
                **{name: value for name, value in arguments.items() if name not in OURS}
            ),
        )
        self._manager.batch_processor = self._manager._create_batch_processor()
        config = self._manager.continuous_batching_config
        if load.device == "cuda" and attention == SDPA:
            refuse_wide_mask(torch.__version__, config.max_batch_tokens, config.num_blocks * config.page_size)
        if any(config.cuda_graph_booleans):
            self._manager.warmup()  # one shape for each way of computing; others are captured when they first come
            torch.cuda.synchronize()
        self._rung = RUNGS[load.layer](self._manager, RequestStatus.FINISHED)

    def submit(self, request: Request) -> None:
        if len(request.prompt) + request.output_tokens > self._context_length:
            raise ValueError(f"request {request.index} is longer than context_length {self._context_length}")
        self._rung.submit(request)

    def step(self) -> StepReport | None:
        return self._rung.step(self.due_ns)

    def has_work(self) -> bool:
        return self._rung.has_work()

    def close(self) -> None:
        rung, manager = getattr(self, "_rung", None), getattr(self, "_manager", None)
        if rung is not None:
            rung.close()
        elif manager is not None:
            manager.destroy()

    def _info(self, version: str, arguments: dict[str, Any], load: Load) -> EngineInfo:
        config, cache = self._manager.continuous_batching_config, self._manager.batch_processor.cache
        tokens = config.num_blocks * config.page_size
        weights = sum(p.numel() * p.element_size() for p in self._model.parameters())
        return EngineInfo(
            version=version,
            effective={
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "quantization": None,
                "tensor_parallel": 1,
                "context_length": self._context_length,
                "max_batch_size": config.max_requests_per_batch,
                "max_tokens_per_step": config.max_batch_tokens,
                "kv_cache_tokens": tokens,
                "kv_cache_dtype": str(self._model.dtype).removeprefix("torch."),
                "kv_block_tokens": config.page_size,
                "prefix_caching": bool(cache.use_prefix_sharing),
                "chunked_prefill": True,
                "cuda_graphs": None if load.device == "cpu" else any(config.cuda_graph_booleans),
                "async_scheduling": False,
                "attention_backend": self._model.config._attn_implementation,
                "process_hops": 0,
                "seed": load.settings["seed"],
            },
            native=arguments,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * kv_bytes_per_token(load.config, load.settings["dtype"]),
            weights_bytes=weights,
            notes=(
                "sampling is part of the execute phase",
                *self._said,
                *RUNGS[load.layer].notes,
                *versions.notes(TITLE, version, self.versions),
            ),
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
        raise UnsupportedSetting(
            f"kv_memory_fraction={fraction:g}: the loaded model leaves nothing of that for the KV cache"
        )
    return share


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of ContinuousBatchingConfig, then the user's own `engine_args`, which win."""
    s = load.settings
    for name in RESERVED & load.engine_args.keys():
        raise UnsupportedSetting(f"engine argument {name}: the adapter steps one batch at a time and needs it as it is")
    refusals = {
        "quantization": (s["quantization"] is not None, "reads unquantized checkpoints only"),
        "tensor_parallel": (s["tensor_parallel"] != 1, "runs on one device here"),
        "chunked_prefill": (s["chunked_prefill"] is False, "always splits long prompts"),
        "cuda_graphs": (load.device == "cpu" and bool(s["cuda_graphs"]), "has no CUDA graphs on a CPU"),
    }
    for name, (refused, why) in refusals.items():
        if refused:
            raise UnsupportedSetting(f"{name}={s[name]}: the torch engine {why}")
    arguments: dict[str, Any] = {
        "page_size": PAGE_TOKENS,
        "max_requests_per_batch": s["max_batch_size"],
        "max_batch_tokens": s["max_tokens_per_step"],
        "allow_block_sharing": s["prefix_caching"],
        "use_async_batching": False,
        "auto_switch_to_flash": False,  # else what runs depends on what else is installed
        "attn_implementation": SDPA,
        "seed": s["seed"],
    }
    if s["cuda_graphs"] is not None:
        arguments["use_cuda_graph"] = s["cuda_graphs"]
    if s["kv_cache_tokens"] is not None:
        arguments["num_blocks"] = -(-s["kv_cache_tokens"] // load.engine_args.get("page_size", PAGE_TOKENS))
    elif s["kv_memory_fraction"] is not None:
        arguments["max_memory_percent"] = s["kv_memory_fraction"]
    return {**arguments, **load.engine_args}
