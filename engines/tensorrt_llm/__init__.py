"""TensorRT-LLM (PyTorch backend): `PyExecutor` in this process, whose loop is a thread of its own."""

from __future__ import annotations

import queue
import threading
from typing import Any, ClassVar

from innerloop.engines.contract import Engine, EngineInfo, Load, Request, StepReport, UnsupportedSetting
from innerloop.engines.support import versions
from innerloop.engines.support.device_memory import device_memory, free_share
from innerloop.engines.support.shapes import kv_bytes_per_token
from innerloop.engines.support.waiting import seconds_left
from innerloop.engines.tensorrt_llm.iterations import Failure, Iteration, keep_awake, watch, watch_thread

TITLE = "TensorRT-LLM"
SINGLE_PROCESS = "TLLM_WORKER_USE_SINGLE_PROCESS"  # set by the environment's recipe, read where LLM is made
BLOCK_TOKENS = 32  # KvCacheConfig.tokens_per_block's default (llmapi/llm_args.py)
FP8_BLOCK = [128, 128]
DTYPES = {"HALF": "float16", "BF16": "bfloat16"}  # of bindings.DataType (_utils.py), by the common names
OVERLAPPED = (
    "overlap scheduler: a step's tokens are those of the batch launched one iteration before, and its time spans both"
)


class Adapter(Engine):
    """Waits for the iterations of `PyExecutor`'s loop.

    Requests enter its queue without LLM's own input and output processing; a step is one pass of its loop, told by
    `tensorrt_llm_iterations`. With the overlap scheduler (the engine's default) batch n is launched while the tokens of
    batch n-1 are still to come: the report carries the make-up of the batch whose tokens it returns and the phase times
    of the pass that returned them.
    """

    name = "tensorrt_llm"
    layers = ("core",)
    cannot_report = ()
    versions: ClassVar[tuple[str, str]] = ("1.2", "1.2")

    def imports(self) -> str:
        import tensorrt_llm

        return tensorrt_llm.__version__

    def load(self, load: Load) -> EngineInfo:
        import tensorrt_llm
        from tensorrt_llm.llmapi.llm_args import TorchLlmArgs

        version = tensorrt_llm.__version__
        with versions.explained(TITLE, version, self.versions):
            arguments = native_arguments(load)
            versions.check_known(arguments, TorchLlmArgs.model_fields, f"{TITLE} {version} has no argument")
            if load.settings["kv_memory_fraction"] is not None and "kv_cache_config" not in load.engine_args:
                arguments["kv_cache_config"]["free_gpu_memory_fraction"] = free_share(load, *device_memory())
            self._llm = tensorrt_llm.LLM(**arguments)
            worker = self._llm._executor
            if not hasattr(getattr(worker, "engine", None), "worker_thread"):
                raise RuntimeError(f"{TITLE} runs its executor in another process: {SINGLE_PROCESS}=1 is not set")
            self.attach(worker)
            return self._info(version, arguments, load)

    def attach(self, worker: Any) -> None:
        """Takes charge of the worker that holds the `PyExecutor`, before any request came."""
        from tensorrt_llm.executor.request import GenerationRequest
        from tensorrt_llm.sampling_params import SamplingParams

        self._worker, self._executor = worker, worker.engine
        self._make_request, self._make_sampling = GenerationRequest, SamplingParams
        self._index: dict[int, int] = {}  # request index by the executor's request id
        self._said: queue.SimpleQueue[Iteration | Failure] = queue.SimpleQueue()
        self._watch = watch(self._executor, self._said.put)
        self._unwatch = watch_thread(self._executor.worker_thread, self._said.put)
        model = self._executor.model_engine
        self._longest = None if model.attn_runtime_features.chunked_prefill else model.max_num_tokens

    # ---------------------------------------------------------------- one step

    def submit(self, request: Request) -> None:
        if self._longest is not None and len(request.prompt) > self._longest:  # else its scheduler raises: no more loop
            raise ValueError(
                f"request {request.index}: a prompt of {len(request.prompt)} tokens is longer than a step"
                f" ({self._longest}); TensorRT-LLM splits prompts only with chunked_prefill=true"
            )
        sampling = self._make_sampling(
            max_tokens=request.output_tokens, ignore_eos=True, end_id=-1, pad_id=0, top_k=1, detokenize=False
        )
        asked = self._make_request(prompt_token_ids=request.prompt, sampling_params=sampling, streaming=True)
        asked.set_id(self._worker._get_next_client_id())
        self._watch.enqueued += 1
        self._index[self._worker._enqueue_request(asked)] = request.index

    def step(self) -> StepReport | None:
        alive = self._executor.worker_thread.is_alive()  # asked first: what it says at its end is there by then
        try:
            said = self._said.get(timeout=seconds_left(self.due_ns))
        except queue.Empty:
            if not alive:
                raise RuntimeError("TensorRT-LLM's executor loop has ended; its log says why") from None
            return None
        if isinstance(said, Failure):
            raise RuntimeError(f"TensorRT-LLM: {said.message}")
        index, tokens, finished = self._index, [], []
        for name, response in said.responses:
            result = response.result
            result.deserialize()
            ids = result.output_token_ids[0]
            if ids:
                tokens.append((index[name], ids))
            if result.is_final:
                finished.append(index.pop(name))
        phases = {f"{phase}_ns": spent for phase, spent in said.spent.items()}
        return said.batch.report(said.start_ns, said.end_ns, tokens, finished, **phases)

    def has_work(self) -> bool:
        return bool(self._index)

    def close(self) -> None:
        llm, left = getattr(self, "_llm", None), list(getattr(self, "_index", ()))
        for name in left:  # its loop ends only when its requests have
            self._executor.cancel_request(name)
        ended = threading.Event()
        if left:
            threading.Thread(target=keep_awake, args=(self._executor, left[0], ended), daemon=True).start()
        try:
            if llm is not None:
                llm.shutdown()
        finally:
            ended.set()
            if hasattr(self, "_unwatch"):
                self._unwatch()

    def _info(self, version: str, arguments: dict[str, Any], load: Load) -> EngineInfo:
        executor, args = self._executor, self._executor.llm_args
        model, manager = executor.model_engine, executor.kv_cache_manager
        ranks = args.tensor_parallel_size
        dtype = str(model.dtype).removeprefix("torch.")
        kept = DTYPES.get(manager.dtype.name, manager.dtype.name.lower())
        stats = manager.get_kv_cache_stats()
        tokens = stats.max_num_blocks * stats.tokens_per_block
        algorithm = model.model.model_config.quant_config.quant_algo
        if load.settings["quantization"] is not None and algorithm is None:
            raise UnsupportedSetting(
                f"quantization={load.settings['quantization']}: TensorRT-LLM has loaded the weights as unquantized ones"
            )
        notes = ["sampling is greedy: TensorRT-LLM takes no seed", *versions.notes(TITLE, version, self.versions)]
        if not executor.disable_overlap_scheduler:
            notes.append(OVERLAPPED)
        return EngineInfo(
            version=version,
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
                "kv_block_tokens": stats.tokens_per_block,
                "prefix_caching": executor.enable_kv_cache_reuse,
                "chunked_prefill": model.attn_runtime_features.chunked_prefill,
                "cuda_graphs": args.cuda_graph_config is not None,
                "async_scheduling": not executor.disable_overlap_scheduler,
                "attention_backend": args.attn_backend,
                "seed": None,
            },
            native=arguments,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * kv_bytes_per_token(load.config, dtype, ranks) * ranks if kept == dtype else None,
            weights_bytes=sum(p.numel() * p.element_size() for p in model.model.parameters()) or None,
            notes=tuple(notes),
        )


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as arguments of LLM, then the user's own `engine_args`, which win."""
    s, quantization = load.settings, quantization_refusal(load)
    refusals = {
        "tensor_parallel": (
            s["tensor_parallel"] != 1,
            "with more than one device runs its executors in processes of its own, which cannot be stepped from here",
        ),
        "quantization": (quantization is not None, quantization),
        "dtype": (s["dtype"] == "float32", "runs float16 or bfloat16: --set dtype=bfloat16"),
    }
    for name, (refused, why) in refusals.items():
        if refused:
            raise UnsupportedSetting(f"{name}={s[name]}: TensorRT-LLM {why}")
    cache: dict[str, Any] = {"enable_block_reuse": s["prefix_caching"]}
    if s["kv_cache_tokens"] is not None:
        cache["max_tokens"] = -(-s["kv_cache_tokens"] // BLOCK_TOKENS) * BLOCK_TOKENS  # it rounds down to whole blocks
    elif s["kv_memory_fraction"] is not None:
        cache["free_gpu_memory_fraction"] = s["kv_memory_fraction"]  # what the weights take is known on the device
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
        "kv_cache_config": cache,
    }
    if s["chunked_prefill"] is not None:
        arguments["enable_chunked_prefill"] = s["chunked_prefill"]
    if s["cuda_graphs"] is not None:
        sizes = {"max_batch_size": s["max_batch_size"], "enable_padding": True}
        arguments["cuda_graph_config"] = sizes if s["cuda_graphs"] else None
    return {**arguments, **load.engine_args}


def quantization_refusal(load: Load) -> str | None:
    """Why TensorRT-LLM cannot run the weights as they are stored; None if it can.

    Of what config.json says of itself, `load_hf_quant_config` (_torch/model_config.py) knows FP8 in blocks and MXFP4:
    anything else is loaded as if it were not quantized, without a word.
    """
    stored = load.config.get("quantization_config")
    if stored is None:
        asked = load.settings["quantization"] is not None
        return "runs quantized checkpoints only as they are stored" if asked else None
    method = stored.get("quant_method")
    if method == "fp8" and stored.get("weight_block_size") == FP8_BLOCK:
        # FP8BlockScalesLinearMethod.apply (_torch/modules/linear.py) asserts it
        return None if load.settings["dtype"] == "bfloat16" else "runs FP8 weights in blocks in bfloat16 only"
    if method == "mxfp4":
        return None
    return "reads FP8 weights with one scale a block of 128 x 128; it would load others as if they were not quantized"
