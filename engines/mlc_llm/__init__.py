"""MLC-LLM: `SyncMLCEngine` stepped in this process, on a model that was compiled for the device beforehand."""

from __future__ import annotations

import gc
import itertools
import sys
import time
from dataclasses import dataclass, fields
from importlib import metadata
from importlib.metadata import packages_distributions
from typing import Any, ClassVar

from innerloop.engines.contract import Engine, EngineInfo, Load, Request, StepReport
from innerloop.engines.mlc_llm.prepare import prepare
from innerloop.engines.mlc_llm.settings import (
    FREE_PAGES,
    OURS,
    PAGE_TOKENS,
    SPARE_TOKENS,
    has_cuda_graphs,
    native_arguments,
    preparation,
    preparation_steps,
)
from innerloop.engines.support import versions
from innerloop.engines.support.shapes import kv_bytes_per_token

__all__ = ["Adapter", "native_arguments", "preparation_steps"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request has to fit into, in tokens; None where that is not known. `total` is the KV cache."""

    context_length: int | None = None
    total: int | None = None


class Adapter(Engine):
    """Steps `SyncMLCEngine.step`: one action each, the prefill of waiting requests or a token for all that run.

    With its default prefill mode (hybrid) a prefill also carries the tokens of requests that run. Tokens come through
    a callback on the stepping thread, which a refused request calls already while it is submitted. The engine tells
    neither which prompt tokens an action took, nor its queues, nor the KV cache's use. How many positions it computed
    again, of the requests that ended, is told in its log when it is closed.
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

        return version_of(mlc_llm)

    def load(self, load: Load) -> EngineInfo:
        import mlc_llm
        from mlc_llm.serve.config import EngineConfig
        from mlc_llm.serve.sync_engine import SyncMLCEngine

        version = version_of(mlc_llm)
        arguments = native_arguments(load)
        config = {name: value for name, value in arguments.items() if name not in OURS}
        with versions.explained("MLC-LLM", version, self.versions):
            versions.check_known(config, {f.name for f in fields(EngineConfig)}, f"MLC-LLM {version} has no setting")
            ready = prepare(preparation(load, arguments, version, compiler_version()))
            engine = SyncMLCEngine(
                model=str(ready.model),
                device=load.device,
                model_lib=str(ready.library),
                mode="server",
                engine_config=EngineConfig(verbose=False, **config),
                request_stream_callback=self._streamed,
            )
            sliding = engine.model_config_dicts[0]["sliding_window_size"] != -1  # then not all of a request is kept
            limits = Limits(
                load.engine_args.get("max_single_sequence_length", load.settings["context_length"]),
                None if sliding else arguments.get("max_total_sequence_length"),
            )
            self.attach(engine, arguments["seed"], limits)
        return self._info(version, load, arguments)

    def attach(self, engine: Any, seed: int = 0, limits: Limits | None = None) -> None:
        """Takes charge of an engine whose callback is `_streamed`."""
        from mlc_llm.protocol.debug_protocol import DebugConfig
        from mlc_llm.protocol.generation_config import GenerationConfig
        from mlc_llm.serve.data import TokenData

        self._engine, self._seed, self._limits, self._again = engine, seed, limits or Limits(), 0
        self._make_generation, self._make_debug, self._make_tokens = GenerationConfig, DebugConfig, TokenData
        self._ids = map(str, itertools.count())
        self._index: dict[str, int] = {}
        self._told: list[tuple[str, list[int], bool]] = []  # (request, new tokens, finished) of the callbacks so far
        self._decoding: set[str] = set()  # requests that have output
        self._idle = False  # whether the last step computed nothing
        self._sums = self._action_sums()

    # ---------------------------------------------------------------- one step

    def submit(self, request: Request) -> None:
        prompt, longest, total = len(request.prompt), self._limits.context_length, self._limits.total
        if longest is not None and prompt + request.output_tokens > longest:
            raise ValueError(f"request {request.index} is longer than context_length {longest}")
        if total is not None and prompt + max(request.output_tokens - 1, 0) + SPARE_TOKENS > total:
            raise ValueError(
                f"request {request.index} ({prompt} + {request.output_tokens} tokens) does not fit into the KV cache "
                f"(kv_cache_tokens {total}), of which MLC-LLM keeps {SPARE_TOKENS} tokens free for it"
            )
        name = next(self._ids)
        self._index[name] = request.index
        generation = self._make_generation(
            temperature=0.0,
            top_p=1.0,  # these and the penalties else come from the checkpoint's generation_config.json
            presence_penalty=0.0,
            frequency_penalty=0.0,
            repetition_penalty=1.0,
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
        before, self._sums = self._sums, self._action_sums()
        told, self._told = self._told, []
        if self._sums == before and not told:
            self._computed_nothing()
            return None
        self._idle = False
        spent_ns = round((sum(self._sums) - sum(before)) * 1e9)
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
            if self._again > 0:
                print(
                    f"mlc_llm: at least {self._again} positions were computed again, warm-up included: requests were "
                    f"thrown out of a KV cache that had too few free pages for them",
                    file=sys.stderr,
                    flush=True,
                )
            engine.reset()
        del engine
        gc.collect()  # what holds the device's memory is C++ objects that end with their last reference

    def _streamed(self, outputs: Any) -> None:
        """What the engine calls with the requests that have news; usage records bring neither tokens nor an end."""
        for output in outputs:
            name, streams = output.unpack()
            stream = streams[0]
            self._told.append((name, list(stream.delta_token_ids), stream.finish_reason is not None))

    def _action_sums(self) -> tuple[float, float]:
        """Seconds in prefills and in decodes so far; both stand still in a step that takes no action (engine.cc)."""
        metrics = self._engine.metrics()
        # Positions computed again, less what a prefix cache held: both sums grow as requests end (metrics.h).
        self._again = metrics["prefill_tokens_sum"] - metrics["prompt_tokens_sum"]
        return metrics["engine_prefill_time_sum"], metrics["engine_decode_time_sum"]

    def _computed_nothing(self) -> None:
        """One such step may have thrown out all that ran; the next then admits the first of those that wait, or none
        ever will be.

        Raises:
            RuntimeError: it is the second in a row.
        """
        if self._idle:
            known = f" of kv_cache_tokens {self._limits.total}" if self._limits.total is not None else ""
            raise RuntimeError(
                f"MLC-LLM computes nothing while {len(self._index)} request(s) wait: the first of them does not fit "
                f"into the KV cache{known}. It has to hold a request's tokens so far with {SPARE_TOKENS} tokens free, "
                f"and {FREE_PAGES} free pages of {PAGE_TOKENS} tokens for each request that runs: give more "
                f"kv_cache_tokens"
            )
        self._idle = True

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
                "context_length": self._limits.context_length,
                # CanPrefill (batch_prefill_base.cc)
                "max_batch_size": min(arguments["max_num_sequence"], arguments["prefill_chunk_size"]),
                "max_tokens_per_step": arguments["prefill_chunk_size"],
                "kv_cache_tokens": tokens,  # what it makes of a share of the memory is only in its log
                "kv_block_tokens": PAGE_TOKENS,
                "prefix_caching": arguments["prefix_cache_mode"] != "disable",
                "chunked_prefill": True,
                "cuda_graphs": has_cuda_graphs(arguments["opt"]),
                "async_scheduling": False,
                "attention_backend": None,
                "seed": arguments["seed"],
            },
            native=arguments,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * kv_bytes_per_token(load.config, s["dtype"], ranks) * ranks if tokens else None,
            notes=versions.notes("MLC-LLM", version, self.versions),
        )


def version_of(package: Any) -> str:
    """The version of the distribution that holds the package, whose own one is never set (libinfo.py)."""
    names = packages_distributions().get("mlc_llm", [])
    return metadata.version(names[0]) if names else str(package.__version__)


def compiler_version() -> str:
    """The distributions that hold TVM, with their versions."""
    names = sorted(set(packages_distributions().get("tvm", [])))
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)
