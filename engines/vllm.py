"""vLLM (V1): `EngineCore` stepped in this process, without input processor, detokenizer or process hop."""

from __future__ import annotations

import difflib
import inspect
import itertools
import os
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from engines import versions
from engines.base import Engine, EngineInfo, Load, Request, StepReport, UnsupportedSetting
from engines.shapes import is_quantized, kv_bytes_per_token

RESERVED = {"speculative_config", "data_parallel_size", "pipeline_parallel_size", "kv_transfer_config"}


@dataclass(slots=True)
class Batch:
    """A scheduled batch's make-up, kept from its scheduling until its tokens come out."""

    prefill: int
    decode: int
    running: int
    waiting: int
    preempted: int
    kv_usage: float


class Adapter(Engine):
    """Steps `EngineCore.step_fn`.

    With asynchronous scheduling (the engine's default on GPUs) a call schedules one batch and returns the tokens of
    an earlier one: the report then carries the make-up of the batch whose tokens it returns and the phase times of
    the call itself, so that phases stay within the step's wall time.
    """

    name = "vllm"
    layers = ("core",)
    versions: ClassVar[tuple[str, str]] = ("0.26", "0.33")
    cannot_report = ("prepare_ns",)

    def imports(self) -> str:
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would silently win over kv_cache_tokens

        import vllm
        import vllm.v1.engine.core_client

        return vllm.__version__

    def load(self, load: Load) -> EngineInfo:
        import vllm

        with versions.explained("vLLM", vllm.__version__, self.versions):
            return self._load(load, vllm)

    def _load(self, load: Load, vllm: Any) -> EngineInfo:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.core_client import InprocClient
        from vllm.v1.executor.abstract import Executor

        arguments = native_arguments(load)
        known = inspect.signature(EngineArgs).parameters
        for name in arguments:
            if name not in known:
                raise UnsupportedSetting(f"vLLM {vllm.__version__} has no engine argument {name!r}{guess(name, known)}")
        config = EngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS)
        self.attach(InprocClient(config, Executor.get_class(config), log_stats=False))
        return self._info(vllm.__version__, config, arguments, load)

    def attach(self, client: Any) -> None:
        """Takes charge of the engine core of an `InprocClient`."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.engine import EngineCoreRequest

        self._client, self._core, self._scheduler = client, client.engine_core, client.engine_core.scheduler
        self._make_request, self._make_sampling = EngineCoreRequest, SamplingParams
        self._ids = map(str, itertools.count())
        self._index: dict[str, int] = {}
        self._partial: set[str] = set()  # requests whose prefill is unfinished, or to be done again
        self._thrown = 0
        self._batches: dict[int, Batch] = {}  # by id() of the SchedulerOutput, alive until its update
        self._batch: Batch | None = None
        self._spent = dict.fromkeys(("schedule", "execute", "wait", "sample", "update"), 0)
        self.instrument()

    # ---------------------------------------------------------------- one step

    def submit(self, request: Request) -> None:
        name = next(self._ids)
        self._index[name] = request.index
        self._client.add_request(
            self._make_request(
                request_id=name,
                prompt_token_ids=request.prompt,
                mm_features=None,
                sampling_params=self._make_sampling(
                    temperature=0.0, ignore_eos=True, max_tokens=request.output_tokens, detokenize=False
                ),
                pooling_params=None,
                arrival_time=time.time(),
                lora_request=None,
                cache_salt=None,
                data_parallel_rank=None,
            )
        )

    def step(self) -> StepReport | None:
        core, spent = self._core, self._spent
        for phase in spent:
            spent[phase] = 0
        self._batch = None
        start = time.monotonic_ns()
        while True:
            outputs, executed = core.step_fn()
            core.post_step(model_executed=executed)
            # With a batch queue the first call only fills it: the step goes on until something comes out of it.
            if outputs is not None or not core.batch_queue:
                break
        end = time.monotonic_ns()
        batch = self._batch
        if batch is None or batch.prefill + batch.decode == 0:
            return None
        index, tokens, finished = self._index, [], []
        for group in outputs.values():
            for output in group.outputs:
                if output.new_token_ids:
                    tokens.append((index[output.request_id], output.new_token_ids))
                if output.finish_reason is not None:
                    finished.append(index.pop(output.request_id))
        return StepReport(
            start_ns=start,
            end_ns=end,
            tokens=tokens,
            finished=finished,
            prefill_tokens=batch.prefill,
            decode_tokens=batch.decode,
            running=batch.running,
            waiting=batch.waiting,
            preempted=batch.preempted,
            kv_usage=batch.kv_usage,
            schedule_ns=spent["schedule"],
            execute_ns=spent["execute"],
            wait_ns=spent["wait"],
            sample_ns=spent["sample"],
            update_ns=spent["update"],
        )

    def has_work(self) -> bool:
        return self._scheduler.has_requests() or bool(self._core.batch_queue)

    def close(self) -> None:
        client = getattr(self, "_client", None)
        if client is not None:
            client.shutdown()

    # ---------------------------------------------------------------- what is seen of a step

    def instrument(self) -> None:
        """Wraps the five calls that make up a step, on this instance only."""
        scheduler, executor, spent = self._scheduler, self._core.model_executor, self._spent
        clock = time.monotonic_ns

        def schedule(*args: Any, _call=scheduler.schedule, **kwargs: Any) -> Any:
            begun = clock()
            output = _call(*args, **kwargs)
            spent["schedule"] += clock() - begun
            self._batches[id(output)] = self._make_up(output)
            return output

        def update(output: Any, *args: Any, _call=scheduler.update_from_output, **kwargs: Any) -> Any:
            begun = clock()
            self._batch = self._batches.pop(id(output))
            result = _call(output, *args, **kwargs)
            spent["update"] += clock() - begun
            return result

        def timed(phase: str, call: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                begun = clock()
                result = call(*args, **kwargs)
                spent[phase] += clock() - begun
                if hasattr(result, "result") and not result.done():
                    result.result = waited(result.result)
                return result

            return wrapper

        def waited(call: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                begun = clock()
                result = call(*args, **kwargs)
                spent["wait"] += clock() - begun
                return result

            return wrapper

        scheduler.schedule, scheduler.update_from_output = schedule, update
        executor.execute_model = timed("execute", executor.execute_model)
        executor.sample_tokens = timed("sample", executor.sample_tokens)

    def _make_up(self, output: Any) -> Batch:
        """Counts a batch's prefill and decode positions from what was computed and what is known.

        The newest known token of a request that has output is a decode position; every other scheduled position is
        prefill: the prompt's, and after a preemption all that is computed again.
        """
        scheduled, partial = output.num_scheduled_tokens, self._partial
        prefill = 0
        if output.preempted_req_ids:
            partial |= output.preempted_req_ids
        if output.scheduled_new_reqs:
            partial |= {new.req_id for new in output.scheduled_new_reqs}
        for name in [name for name in partial if name in scheduled]:
            request = self._scheduler.requests[name]
            prefill += scheduled[name]
            if not request.is_prefill_chunk:
                partial.discard(name)
                prefill -= min(request.num_output_tokens, 1)
        total = output.total_num_scheduled_tokens
        self._thrown += len(output.preempted_req_ids or ())
        preempted = self._thrown if total else 0
        self._thrown -= preempted  # an empty batch is no step: what it threw out is told with the next
        return Batch(
            prefill=prefill,
            decode=total - prefill,
            running=len(scheduled),
            waiting=self._scheduler.get_request_counts()[1],
            preempted=preempted,
            kv_usage=self._scheduler.kv_cache_manager.usage,
        )

    def _info(self, version: str, config: Any, arguments: dict[str, Any], load: Load) -> EngineInfo:
        model, cache, sched = config.model_config, config.cache_config, config.scheduler_config
        dtype, ranks = str(model.dtype).removeprefix("torch."), config.parallel_config.tensor_parallel_size
        token = kv_bytes_per_token(load.config, dtype, ranks) * ranks if cache.cache_dtype == "auto" else None
        runner = model_runner(self._core)
        blocks, block = cache.num_gpu_blocks, cache.block_size
        graphs = getattr(config.compilation_config, "cudagraph_mode", None)
        return EngineInfo(
            version=version,
            effective={
                "dtype": dtype,
                "quantization": model.quantization,
                "tensor_parallel": ranks,
                "context_length": model.max_model_len,
                "max_batch_size": sched.max_num_seqs,
                "max_tokens_per_step": sched.max_num_batched_tokens,
                "kv_cache_tokens": blocks * block,
                "kv_cache_dtype": str(cache.cache_dtype),
                "kv_block_tokens": block,
                "prefix_caching": cache.enable_prefix_caching,
                "chunked_prefill": sched.enable_chunked_prefill,
                "cuda_graphs": None if load_is_cpu(config) else not model.enforce_eager,
                "cuda_graph_mode": getattr(graphs, "name", None),
                "async_scheduling": bool(getattr(sched, "async_scheduling", False)),
                "attention_backend": attention_backend(runner),
                "seed": model.seed,
            },
            native=arguments,
            kv_cache_tokens=blocks * block,
            kv_cache_bytes=None if token is None else blocks * block * token,
            weights_bytes=weights_bytes(runner),
            notes=versions.notes("vLLM", version, self.versions),
        )


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings in vLLM's words, then the user's own `engine_args`, which win."""
    s = load.settings
    cpu = load.device == "cpu"
    for name in RESERVED & load.engine_args.keys():
        raise UnsupportedSetting(f"engine argument {name}: the adapter does not follow what it changes about a step")
    if cpu and s["cuda_graphs"]:
        raise UnsupportedSetting("cuda_graphs=true: there are no CUDA graphs on a CPU; leave it unset")
    if cpu and s["quantization"] == "fp8" and not is_quantized(load.config):
        raise UnsupportedSetting(
            "quantization=fp8: vLLM's CPU build cannot quantize on loading; choose a model with FP8 weights"
        )
    arguments: dict[str, Any] = {
        "model": load.checkpoint,
        "skip_tokenizer_init": True,
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
    if s["kv_cache_tokens"] is not None:
        token = kv_bytes_per_token(load.config, s["dtype"], s["tensor_parallel"])
        arguments["kv_cache_memory_bytes"] = s["kv_cache_tokens"] * token
    elif s["kv_memory_fraction"] is not None:
        arguments["gpu_memory_utilization"] = s["kv_memory_fraction"]
    return {**arguments, **load.engine_args}


def guess(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def load_is_cpu(config: Any) -> bool:
    return config.device_config.device_type == "cpu"


def model_runner(core: Any) -> Any:
    """The model runner in this process; None where the workers are processes of their own."""
    worker = getattr(core.model_executor, "driver_worker", None)
    return getattr(getattr(worker, "worker", worker), "model_runner", None)


def weights_bytes(runner: Any) -> int | None:
    """What loading the model took on the device; the CPU's runner, which repacks its weights, does not count it."""
    return getattr(runner, "model_memory_usage", None) or None


def attention_backend(runner: Any) -> str | None:
    """The backend that the model runner chose; None where this version keeps it elsewhere."""
    groups: Any = getattr(runner, "attn_groups", None)
    try:
        return groups[0][0].backend.get_name()
    except (TypeError, IndexError, AttributeError):
        return None
