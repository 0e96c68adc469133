"""SGLang: its `Scheduler` stepped in this process, one pass of its event loop at a time."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import Any, ClassVar

from innerloop.engines.contract import Engine, EngineInfo, Load, Request, StepReport, UnsupportedSetting
from innerloop.engines.sglang.passes import Passes
from innerloop.engines.support import versions
from innerloop.engines.support.shapes import fp8_in_blocks, is_quantized, kv_bytes_per_token

# The scheduler ends a request two positions before context_length, and refuses prompts within seven of it.
CONTEXT_MARGIN = 6
# Their load_weights (models/llama.py) renames the scales of blocks to what no parameter is called, and goes on.
LOSES_BLOCK_SCALES = {"LlamaForCausalLM", "MistralForCausalLM"}
WATCHDOG_S = 1e6  # its watchdog would send a signal to the worker's parent; the harness has one of its own

CANNOT_REPORT = ("prepare_ns", "sample_ns")
IN_ORDER_CANNOT_REPORT = (*CANNOT_REPORT, "wait_ns")  # without overlap the tokens are waited for inside other calls


class Adapter(Engine):
    """Overlapped scheduling is the engine's default; `disable_overlap_schedule=true` runs one batch after the other."""

    name = "sglang"
    layers = ("core",)
    versions: ClassVar[tuple[str, str]] = ("0.5.23", "0.5.23")
    cannot_report: ClassVar[tuple[str, ...]] = CANNOT_REPORT

    def imports(self) -> str:
        import sglang
        import sglang.srt.managers.scheduler

        return sglang.__version__

    def load(self, load: Load) -> EngineInfo:
        import sglang

        with versions.explained("SGLang", sglang.__version__, self.versions):
            return self._load(load, sglang.__version__)

    def _load(self, load: Load, version: str) -> EngineInfo:
        from sglang.srt.managers import scheduler
        from sglang.srt.runtime_context import SpawnRanks, publish, spawn_world_rank
        from sglang.srt.server_args import PortArgs, ServerArgs
        from sglang.srt.utils import configure_logger

        arguments = native_arguments(load)
        versions.check_known(arguments, ServerArgs.__struct_fields__, f"SGLang {version} has no server argument")
        args = ServerArgs(**arguments)
        configure_logger(args)  # as its launcher does, which is not used here
        args.resolve_once()
        self._ports = PortArgs.init_new(args)
        rank = spawn_world_rank(args, tp_rank=0, pp_rank=0)
        publish(args, role="scheduler", ranks=SpawnRanks(world_rank=rank, gpu_id=args.base_gpu_id))
        self._scheduler = scheduler.Scheduler(args, self._ports)
        self._passes = Passes(self._scheduler)
        if not self._passes.overlap:  # whoever switched it off
            self.cannot_report = IN_ORDER_CANNOT_REPORT  # type: ignore[misc]
        # What its event loop sets up before the first pass; the passes are ours.
        scheduler.dispatch_event_loop = lambda _: None
        self._scheduler.run_event_loop()
        self._held = contextlib.ExitStack()
        self._held.enter_context(self._scheduler.device_module.StreamContext(self._scheduler.schedule_stream))
        self._held.enter_context(scheduler.DynamicGradMode())
        gc.collect()
        gc.freeze()  # as its server does once it is warm
        return self._info(version, args.resolved_dict(), arguments, load)

    def submit(self, request: Request) -> None:
        self._passes.submit(request)

    def step(self) -> StepReport | None:
        return self._passes.step()

    def has_work(self) -> bool:
        return self._passes.has_work()

    def close(self) -> None:
        passes = getattr(self, "_passes", None)
        if passes is not None and passes.sound:  # after a failure the device may never answer
            from sglang.srt.distributed.parallel_state import abort_distributed_environment

            self._scheduler.release_host_resources()
            abort_distributed_environment()
        held = getattr(self, "_held", None)
        if held is not None:
            held.close()
        for address in vars(self._ports).values() if hasattr(self, "_ports") else ():
            if isinstance(address, str) and address.startswith("ipc://"):  # sockets to processes that never were
                Path(address.removeprefix("ipc://")).unlink(missing_ok=True)
        snapshot = getattr(getattr(self, "_scheduler", None), "load_snapshot_writer", None)
        if snapshot is not None and hasattr(snapshot, "path"):  # in shared memory, for its router
            Path(snapshot.path).unlink(missing_ok=True)

    def _info(self, version: str, found: dict[str, Any], arguments: dict[str, Any], load: Load) -> EngineInfo:
        scheduler = self._scheduler
        runner, tokens = scheduler.tp_worker.model_runner, scheduler.max_total_num_tokens
        dtype = str(scheduler.model_config.dtype).removeprefix("torch.")
        kept = str(runner.kv_cache_dtype).removeprefix("torch.")  # of the KV cache; a checkpoint may name its own
        share = load.settings["kv_memory_fraction"]
        notes = versions.notes("SGLang", version, self.versions)
        if share is not None:
            notes += ("mem_fraction_static counts weights and KV cache; activations and CUDA graphs come on top",)
        return EngineInfo(
            version=version,
            effective={
                "dtype": dtype,
                "quantization": scheduler.model_config.quantization,
                "tensor_parallel": found["tp_size"],
                "context_length": scheduler.model_config.context_len - CONTEXT_MARGIN,
                "max_batch_size": scheduler.max_running_requests,
                "max_tokens_per_step": scheduler.chunked_prefill_size or scheduler.max_prefill_tokens,
                "kv_cache_tokens": tokens,
                "kv_cache_dtype": kept,
                "kv_block_tokens": scheduler.page_size,
                "prefix_caching": not scheduler.disable_radix_cache,
                "chunked_prefill": scheduler.chunked_prefill_size is not None,
                "cuda_graphs": runner.decode_cuda_graph_runner not in (None, runner.eager_runner),
                "async_scheduling": self._passes.overlap,
                "attention_backend": found["attention_backend"],
                "seed": scheduler.random_seed,
            },
            native=arguments,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * kv_bytes_per_token(load.config, dtype) if kept == dtype else None,
            weights_bytes=int(runner.weight_load_mem_usage * 2**30) or None,
            notes=notes,
        )


def cannot_report(load: Load) -> tuple[str, ...]:
    """The fields of a step that stay None with this load."""
    return IN_ORDER_CANNOT_REPORT if load.engine_args.get("disable_overlap_schedule") else CANNOT_REPORT


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of ServerArgs, then the user's own `engine_args`, which win."""
    s = load.settings
    whole = s["chunked_prefill"] is False
    lost = fp8_in_blocks(load.config) and not LOSES_BLOCK_SCALES.isdisjoint(load.config.get("architectures", ()))
    refusals = {
        "quantization": (
            lost,
            "SGLang loses the scales of a Llama's FP8 weights in blocks and computes NaN; it reads those with a scale "
            "for each output (llama3-8b-fp8-channel)",
        ),
        "dtype": (
            s["dtype"] == "float32",
            "SGLang computes in bfloat16 or float16: --set dtype=bfloat16",
        ),
        "tensor_parallel": (s["tensor_parallel"] != 1, "this layer steps one scheduler, which has one device"),
        "chunked_prefill": (
            whole and s["max_tokens_per_step"] < s["context_length"],
            f"a whole prompt can be longer than max_tokens_per_step={s['max_tokens_per_step']}",
        ),
    }
    for name, (refused, why) in refusals.items():
        if refused:
            raise UnsupportedSetting(f"{name}={s[name]}: {why}")
    arguments: dict[str, Any] = {
        "model_path": load.checkpoint,
        "skip_tokenizer_init": True,
        "trust_remote_code": load.trust_remote_code,
        "device": load.device,
        "dtype": s["dtype"],
        # Named, a stored method would get its plain kernels; found in config.json, the best ones (awq_marlin, say).
        "quantization": None if is_quantized(load.config) else s["quantization"],
        "tp_size": s["tensor_parallel"],
        "context_length": s["context_length"] + CONTEXT_MARGIN,
        "max_running_requests": s["max_batch_size"],
        "max_prefill_tokens": s["max_tokens_per_step"],
        "chunked_prefill_size": -1 if whole else s["max_tokens_per_step"],
        "disable_radix_cache": not s["prefix_caching"],
        "random_seed": s["seed"],
        "log_level": "error",
        "watchdog_timeout": WATCHDOG_S,
    }
    if s["cuda_graphs"] is not None:
        backend = "full" if s["cuda_graphs"] else "disabled"
        arguments["cuda_graph_backend_decode"] = backend
        if not s["cuda_graphs"]:
            arguments["cuda_graph_backend_prefill"] = backend
    if s["kv_cache_tokens"] is not None:
        arguments["max_total_tokens"] = s["kv_cache_tokens"]
    elif s["kv_memory_fraction"] is not None:
        arguments["mem_fraction_static"] = s["kv_memory_fraction"]
    return {**arguments, **load.engine_args}
