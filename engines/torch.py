"""torch: transformers' continuous batching, its batch processor stepped in this process."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import time
from typing import Any

from engines.base import Engine, EngineInfo, Load, Request, StepReport, UnsupportedSetting
from engines.shapes import kv_bytes_per_token

PAGE_TOKENS = 256  # ContinuousBatchingConfig's default page
RESERVED = {"use_async_batching", "max_queue_size"}


class Adapter(Engine):
    """Steps `ContinuousBatchProcessor`: prepare_next_batch, _generation_step, update_batch, as its own thread would.

    Asynchronous batching is off, so that a step's tokens are those of the batch that it computed.
    """

    name = "torch"
    layers = ("core",)
    cannot_report = ("sample_ns",)

    def imports(self) -> str:
        import torch  # noqa: F401
        import transformers
        import transformers.generation.continuous_batching

        return transformers.__version__

    def load(self, load: Load) -> EngineInfo:
        import torch
        import transformers
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig
        from transformers.generation.continuous_batching.requests import RequestStatus

        arguments = native_arguments(load)
        known = {f.name for f in dataclasses.fields(ContinuousBatchingConfig)}
        for name in arguments:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                raise UnsupportedSetting(
                    f"ContinuousBatchingConfig of transformers {transformers.__version__} has no field {name!r}"
                    + (f"; did you mean {close[0]!r}?" if close else "")
                )
        torch.manual_seed(load.settings["seed"])
        self._model = AutoModelForCausalLM.from_pretrained(
            load.checkpoint,
            dtype=getattr(torch, load.settings["dtype"]),
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=load.trust_remote_code,
        ).to(load.device)
        if "max_memory_percent" in arguments and "max_memory_percent" not in load.engine_args:
            arguments["max_memory_percent"] = share_of_free(load.settings["kv_memory_fraction"], load.device)
        self._context_length = load.settings["context_length"]
        config = ContinuousBatchingConfig(**arguments)
        # The config is taken as it is: a model folder's own sampling settings must not make greedy decoding random.
        self._manager = self._model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=config,
        )
        self._processor = self._manager._create_batch_processor()
        self._manager.batch_processor = self._processor
        if any(self._manager.continuous_batching_config.cuda_graph_booleans):
            self._manager.warmup()  # else graphs are captured when a shape is first seen, in the window too
        self._io = self._processor.inputs_and_outputs
        self._scheduler = self._processor.scheduler
        self._finished_status = RequestStatus.FINISHED
        self._ids = map(str, itertools.count())
        self._index: dict[str, int] = {}
        self._submitted = 0
        self._spent = dict.fromkeys(("schedule", "execute", "wait"), 0)
        self._preempted = 0
        self.instrument()
        return self._info(transformers.__version__, arguments, load)

    # ---------------------------------------------------------------- one step

    def submit(self, request: Request) -> None:
        if len(request.prompt) + request.output_tokens > self._context_length:
            raise ValueError(f"request {request.index} is longer than context_length {self._context_length}")
        name = next(self._ids)
        self._index[name] = request.index
        self._manager.add_request(
            request.prompt, request_id=name, max_new_tokens=request.output_tokens, eos_token_id=-1
        )

    def step(self) -> StepReport | None:
        processor, spent, clock = self._processor, self._spent, time.monotonic_ns
        for phase in spent:
            spent[phase] = 0
        self._preempted = 0
        start = clock()
        if not processor.prepare_next_batch():
            return None
        prepared = clock()
        batch = self._io.requests_in_batch
        prefill, decode = make_up(batch)
        waiting, kv_usage = len(self._scheduler.waiting_requests), 1.0 - processor.cache.compute_free_capacity()
        begun = clock()
        processor._generation_step(self._model)
        updating = clock()
        processor.update_batch()
        end = clock()
        tokens, finished = self._collect(batch)
        return StepReport(
            start_ns=start,
            end_ns=end,
            tokens=tokens,
            finished=finished,
            prefill_tokens=prefill,
            decode_tokens=decode,
            running=len(batch),
            waiting=waiting,
            preempted=self._preempted,
            kv_usage=kv_usage,
            schedule_ns=spent["schedule"],
            prepare_ns=prepared - start - spent["schedule"],
            execute_ns=updating - begun - spent["wait"],
            wait_ns=spent["wait"],
            update_ns=end - updating,
        )

    def _collect(self, batch: list[Any]) -> tuple[list[tuple[int, list[int]]], list[int]]:
        index, tokens, finished = self._index, [], []
        for scheduled in batch:
            if scheduled.has_new_token:
                state = scheduled.state
                tokens.append((index[state.request_id], state.generated_tokens[-1:]))
                if state.status == self._finished_status:
                    finished.append(index.pop(state.request_id))
        if finished:
            self._manager.output_router.output_queue.queue.clear()  # nobody reads it, and it holds every token
        return tokens, finished

    def has_work(self) -> bool:
        return self._processor.has_pending_requests() or not self._manager.input_queue.empty()

    def close(self) -> None:
        manager = getattr(self, "_manager", None)
        if manager is not None:
            manager.destroy()

    # ---------------------------------------------------------------- what is seen of a step

    def instrument(self) -> None:
        """Wraps the scheduler, the read-back of the tokens and the eviction of requests, on these instances only."""

        def timed(phase: str, call: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                begun = time.monotonic_ns()
                result = call(*args, **kwargs)
                self._spent[phase] += time.monotonic_ns() - begun
                return result

            return wrapper

        self._scheduler.schedule_batch = timed("schedule", self._scheduler.schedule_batch)
        self._io.retrieve_device_outputs = timed("wait", self._io.retrieve_device_outputs)
        evict = self._processor.offloading_manager.offload_requests

        def counted() -> Any:
            before = len(self._scheduler.active_requests)
            result = evict()
            self._preempted += before - len(self._scheduler.active_requests)
            return result

        self._processor.offloading_manager.offload_requests = counted

    def _info(self, version: str, arguments: dict[str, Any], load: Load) -> EngineInfo:
        config, cache = self._manager.continuous_batching_config, self._processor.cache
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
                "seed": load.settings["seed"],
            },
            native=arguments,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * kv_bytes_per_token(load.config, load.settings["dtype"]),
            weights_bytes=weights,
            notes=("sampling is part of the execute phase",),
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


def make_up(batch: list[Any]) -> tuple[int, int]:
    """(prefill, decode) positions of a prepared batch.

    A request without output is in prefill. One that was thrown out comes back with its output made part of its
    prompt: all of that is prefill again, but for the newest token.
    """
    total = decode = 0
    for scheduled in batch:
        total += scheduled.query_length
        state = scheduled.state
        had_output = state._true_initial_tokens and len(state.initial_tokens) > state._true_initial_tokens
        if state.generated_tokens or (had_output and scheduled.has_new_token):
            decode += 1
    return total - decode, decode


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
        "seed": s["seed"],
    }
    if s["cuda_graphs"] is not None:
        arguments["use_cuda_graph"] = s["cuda_graphs"]
    if s["kv_cache_tokens"] is not None:
        arguments["num_blocks"] = -(-s["kv_cache_tokens"] // load.engine_args.get("page_size", PAGE_TOKENS))
    elif s["kv_memory_fraction"] is not None:
        arguments["max_memory_percent"] = s["kv_memory_fraction"]
    return {**arguments, **load.engine_args}
