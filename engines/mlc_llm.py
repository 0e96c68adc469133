"""MLC-LLM: `SyncMLCEngine` stepped in this process, on a model that was compiled for the device beforehand."""

from __future__ import annotations

import gc
import itertools
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

from engines import versions
from engines.base import Engine, EngineInfo, Load, Request, StepReport, UnsupportedSetting
from engines.mlc_llm_prepare import Preparation, compile_command, configure_command, convert_command, prepare
from engines.shapes import kv_bytes_per_token

QUANTIZATION = {"float16": "q0f16", "bfloat16": "q0bf16", "float32": "q0f32"}  # none, by dtype
AWQ = "q4f16_autoawq"
NO_GRAPHS = "flashinfer=1;cublas_gemm=1;faster_transformer=0;cudagraph=0;cutlass=1"  # O2 but for its CUDA graphs
OURS = ("quantization", "opt", "tensor_parallel_shards", "seed")  # not fields of EngineConfig here


class Adapter(Engine):
    """Steps `SyncMLCEngine.step`: one action each, the prefill of waiting requests or a token for all that run.

    With its default prefill mode (hybrid) a prefill also carries the tokens of requests that run. Tokens come through
    a callback on the stepping thread, which a refused request calls already while it is submitted. The engine tells
    neither which prompt tokens an action took, nor its queues, nor the KV cache's use.
    """

    name = "mlc_llm"
    layers = ("core",)
    cannot_report = (
        "prefill_tokens",
        "running",
        "waiting",
        "preempted",
        "kv_usage",
        "schedule_ns",
        "prepare_ns",
        "wait_ns",
        "sample_ns",
        "update_ns",
    )
    versions: ClassVar[tuple[str, str]] = ("0.26", "0.26")

    def imports(self) -> str:
        import mlc_llm
        import mlc_llm.serve.sync_engine

        return mlc_llm.__version__

    def load(self, load: Load) -> EngineInfo:
        import mlc_llm
        from mlc_llm.serve.config import EngineConfig
        from mlc_llm.serve.sync_engine import SyncMLCEngine

        version = mlc_llm.__version__
        arguments = native_arguments(load)
        config = {name: value for name, value in arguments.items() if name not in OURS}
        with versions.explained("MLC-LLM", version, self.versions):
            versions.check_known(config, {f.name for f in fields(EngineConfig)}, f"MLC-LLM {version} has no setting")
            ready = prepare(preparation(load, arguments, version))
            engine = SyncMLCEngine(
                model=str(ready.model),
                device=load.device,
                model_lib=str(ready.library),
                mode="server",
                engine_config=EngineConfig(verbose=False, **config),
                request_stream_callback=self._streamed,
            )
            self.attach(engine, arguments["seed"])
        return self._info(version, load, arguments)

    def attach(self, engine: Any, seed: int = 0) -> None:
        """Takes charge of an engine whose callback is `_streamed`."""
        from mlc_llm.protocol.debug_protocol import DebugConfig
        from mlc_llm.protocol.generation_config import GenerationConfig
        from mlc_llm.serve.data import TokenData

        self._engine, self._seed = engine, seed
        self._make_generation, self._make_debug, self._make_tokens = GenerationConfig, DebugConfig, TokenData
        self._ids = map(str, itertools.count())
        self._index: dict[str, int] = {}
        self._told: list[tuple[str, list[int], bool]] = []  # (request, new tokens, finished) of the callbacks so far
        self._decoding: set[str] = set()  # requests that have output
        self._busy_s = self._action_seconds()

    # ---------------------------------------------------------------- one step

    def submit(self, request: Request) -> None:
        name = next(self._ids)
        self._index[name] = request.index
        generation = self._make_generation(
            temperature=0.0,
            max_tokens=request.output_tokens,
            seed=self._seed,
            debug_config=self._make_debug(ignore_eos=True),
        )
        inputs = [self._make_tokens(request.prompt)]
        self._engine.add_request(self._engine.create_request(name, inputs, generation))

    def step(self) -> StepReport | None:
        if not self.has_work():
            return None
        start = time.monotonic_ns()
        if not self._told:  # a request refused on its way in is told without an action
            self._engine.step()
        end = time.monotonic_ns()
        busy_s = self._action_seconds()
        spent_ns, self._busy_s = round((busy_s - self._busy_s) * 1e9), busy_s
        told, self._told = self._told, []
        tokens: dict[str, list[int]] = {}
        finished, decode = [], 0
        for name, ids, done in told:
            if ids:
                decode += name in self._decoding and name not in tokens
                tokens.setdefault(name, []).extend(ids)
            if done:
                finished.append(name)
        self._decoding.update(tokens)
        self._decoding.difference_update(finished)
        report = StepReport(
            start_ns=start,
            end_ns=end,
            tokens=[(self._index[name], ids) for name, ids in tokens.items()],
            finished=[self._index[name] for name in finished],
            decode_tokens=decode,
            execute_ns=min(spent_ns, end - start),
        )
        for name in finished:
            del self._index[name]
        return report

    def has_work(self) -> bool:
        return bool(self._index)

    def close(self) -> None:
        engine, self._engine = getattr(self, "_engine", None), None
        if engine is not None:
            engine.reset()
        del engine
        gc.collect()  # what holds the device's memory is C++ objects that end with their last reference

    def _streamed(self, outputs: Any) -> None:
        """What the engine calls with the requests that have news; usage records bring neither tokens nor an end."""
        for output in outputs:
            name, streams = output.unpack()
            stream = streams[0]
            self._told.append((name, list(stream.delta_token_ids), stream.finish_reason is not None))

    def _action_seconds(self) -> float:
        metrics = self._engine.metrics()
        return metrics["engine_prefill_time_sum"] + metrics["engine_decode_time_sum"]

    def _info(self, version: str, load: Load, arguments: dict[str, Any]) -> EngineInfo:
        s, model = load.settings, self._engine.model_config_dicts[0]
        tokens = arguments.get("max_total_sequence_length")
        ranks = s["tensor_parallel"]
        return EngineInfo(
            version=version,
            effective={
                "dtype": s["dtype"],
                "quantization": model["quantization"],
                "tensor_parallel": ranks,
                "context_length": arguments["max_single_sequence_length"],
                "max_batch_size": arguments["max_num_sequence"],
                "max_tokens_per_step": arguments["prefill_chunk_size"],
                "kv_cache_tokens": tokens,  # what it makes of a share of the memory is only in its log
                "kv_block_tokens": 16,  # the only size that it has
                "prefix_caching": arguments["prefix_cache_mode"] != "disable",
                "chunked_prefill": True,
                "cuda_graphs": arguments["opt"] != NO_GRAPHS,
                "async_scheduling": False,
                "attention_backend": None,
                "seed": arguments["seed"],
            },
            native=arguments,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * kv_bytes_per_token(load.config, s["dtype"], ranks) * ranks if tokens else None,
            notes=versions.notes("MLC-LLM", version, self.versions),
        )


def preparation(load: Load, arguments: dict[str, Any], version: str) -> Preparation:
    """What is to be converted and compiled for these settings."""
    return Preparation(
        checkpoint=load.checkpoint,
        device=load.device,
        version=version,
        quantization=arguments["quantization"],
        source_format="awq" if arguments["quantization"] == AWQ else "auto",
        opt=arguments["opt"],
        overrides={
            "context_window_size": arguments["max_single_sequence_length"],
            "prefill_chunk_size": arguments["prefill_chunk_size"],
            "max_batch_size": arguments["max_num_sequence"],
            "tensor_parallel_shards": arguments["tensor_parallel_shards"],
        },
    )


def preparation_steps(load: Load) -> list[str]:
    """The commands that prepare a model for these settings, without running them; folders by what they are."""
    wanted = preparation(load, native_arguments(load), "")
    source, model, library = Path(load.checkpoint), Path("MODEL"), Path("LIBRARY.so")
    commands = (
        convert_command(wanted, source, model),
        configure_command(wanted, source, model),
        compile_command(wanted, model, library),
    )
    return [" ".join(command[2:]) for command in commands]


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of EngineConfig and, in `OURS`, as what the model is compiled with, then the
    user's own `engine_args`, which win."""
    s = load.settings
    awq = s["quantization"] == "awq"
    refusals = {
        "quantization": (
            s["quantization"] not in (None, "awq"),
            "has no GPTQ, and FP8 only from weights that it calibrated itself; awq works",
        ),
        "chunked_prefill": (s["chunked_prefill"] is False, "always splits long prompts"),
        "dtype": (awq and s["dtype"] != "float16", "runs AWQ in float16 only"),
    }
    for name, (refused, why) in refusals.items():
        if refused:
            raise UnsupportedSetting(f"{name}={s[name]}: MLC-LLM {why}")
    arguments: dict[str, Any] = {
        "quantization": AWQ if awq else QUANTIZATION[s["dtype"]],
        "opt": NO_GRAPHS if s["cuda_graphs"] is False else "O2",
        "tensor_parallel_shards": s["tensor_parallel"],
        "seed": s["seed"],
        "max_single_sequence_length": s["context_length"],
        "max_num_sequence": s["max_batch_size"],
        "prefill_chunk_size": min(s["max_tokens_per_step"], s["context_length"]),  # its compiler takes no more
        "prefix_cache_mode": "radix" if s["prefix_caching"] else "disable",
    }
    if s["kv_cache_tokens"] is not None:
        arguments["max_total_sequence_length"] = s["kv_cache_tokens"]
    elif s["kv_memory_fraction"] is not None:
        arguments["gpu_memory_utilization"] = s["kv_memory_fraction"]
    return {**arguments, **load.engine_args}
