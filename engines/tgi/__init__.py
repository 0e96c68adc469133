"""Text Generation Inference: its Python model server stepped in this process; the batching is the adapter's."""

from __future__ import annotations

import sys
import time
from importlib import metadata
from typing import Any, ClassVar

from innerloop.engines.contract import Engine, EngineInfo, Load, Request, StepReport, UnsupportedSetting
from innerloop.engines.support import versions
from innerloop.engines.support.shapes import kv_bytes_per_token
from innerloop.engines.tgi.batches import (
    MAX_WAITING_TOKENS,
    WAITING_SERVED_RATIO,
    Pool,
    Prompts,
    Turns,
    pool_tokens,
    request_batch,
    warm,
)
from innerloop.engines.tgi.settings import OURS, native_arguments, settle_memory

__all__ = ["Adapter", "cannot_report", "native_arguments"]

DISTRIBUTION = "text-generation-server"
TITLE = "TGI's Python server"
BATCHED_HERE = "TGI's scheduler is its router, which is Rust; this run's batching is innerloop's, by the router's rules"


class Adapter(Engine):
    """Steps `Model.generate_token`.

    One step is one call: the prefill of requests that are admitted now, or one token for all that run. Which of both,
    `Turns` says as TGI's router would. A request is admitted when it has a place in the batch, its prompt fits into the
    step's tokens and its whole length fits into the KV cache, in the order of arrival. Prefilled requests join the
    others at the next decode. Nothing is ever preempted.
    """

    name = "tgi"
    layers = ("core",)
    cannot_report: ClassVar[tuple[str, ...]] = ("wait_ns", "sample_ns")
    versions: ClassVar[tuple[str, str]] = ("2.0", "2.0")  # the server package's own number, which TGI 3.3 still bears

    def imports(self) -> str:
        import text_generation_server.models  # noqa: F401

        return metadata.version(DISTRIBUTION)

    def load(self, load: Load) -> EngineInfo:
        from text_generation_server.models import get_model

        arguments = native_arguments(load)
        places = {name: arguments.pop(name) for name in OURS}
        known = set(get_model.__code__.co_varnames[: get_model.__code__.co_argcount])
        for name in arguments:
            if name not in known:
                raise UnsupportedSetting(f"TGI's get_model has no argument {name!r}; innerloop's own are {list(OURS)}")
        flash = sys.modules.get("text_generation_server.models.flash_causal_lm")
        if flash is not None and load.device == "cuda":
            settle_memory(flash, load.settings)
        with versions.explained(TITLE, metadata.version(DISTRIBUTION), self.versions):
            model = get_model(**arguments)
            paged = hasattr(model, "kv_cache")
            if model.support_chunking:
                raise RuntimeError("TGI would take prompts in chunks, which its router cuts: set PREFILL_CHUNKING=0")
            if load.device == "cuda" and not paged:
                raise RuntimeError("TGI fell back to its path without paged attention: its kernels are not installed")
            tokens = places["kv_cache_tokens"]
            context = load.settings["context_length"]
            if paged:
                held = warm(model, places["max_tokens_per_step"], context) - block_tokens()
                tokens = pool_tokens(tokens, held)
            elif tokens is None:
                tokens = places["max_batch_size"] * context
            self.attach(model, **{**places, "kv_cache_tokens": tokens})
        self.cannot_report = cannot_report(load)  # type: ignore[misc]
        return self._info(load, {**arguments, **places})

    def attach(
        self,
        model: Any,
        max_batch_size: int,
        max_tokens_per_step: int,
        kv_cache_tokens: int,
        waiting_served_ratio: float = WAITING_SERVED_RATIO,
        max_waiting_tokens: int = MAX_WAITING_TOKENS,
    ) -> None:
        """Takes charge of a loaded model; the others are what TGI's router would be told."""
        server_globals().set_adapter_to_index({})  # as serve() of server.py; thinning a paged batch looks adapters up
        self._model, self._paged = model, hasattr(model, "kv_cache")
        self._places, self._step_tokens = max_batch_size, max_tokens_per_step
        self._prompts = Prompts(model.tokenizer)
        self._pool = Pool(kv_cache_tokens, block_tokens() if self._paged else 1)
        self._turns = Turns(waiting_served_ratio, max_waiting_tokens)
        self._queue: list[Request] = []
        self._left: dict[int, int] = {}  # tokens still to come, by id, of every request that runs
        self._index: dict[int, int] = {}
        self._next = self._batches = 0
        self._running: Any = None
        self._fresh: Any = None  # prefilled by the last step, not yet with the others
        # Text is not made: the step's tokens are ids.
        model.decode_token = lambda ids, prefix_offset=0, read_offset=0, skip_special_tokens=False: (
            "",
            prefix_offset,
            read_offset,
        )

    # ---------------------------------------------------------------- one step

    def submit(self, request: Request) -> None:
        if not self._pool.ever_holds(request) or len(request.prompt) > self._step_tokens:
            raise UnsupportedSetting(
                f"a prompt of {len(request.prompt)} and {request.output_tokens} tokens can never be admitted: "
                f"max_tokens_per_step is {self._step_tokens}, the KV cache holds {self._pool.tokens} tokens"
            )
        self._queue.append(request)

    def step(self) -> StepReport | None:
        if not self.has_work():
            return None
        start = time.monotonic_ns()
        ran = len(self._left)
        admitted = self._admit()
        scheduled = time.monotonic_ns()
        batch = self._prefill_batch(admitted) if admitted else self._joined()
        size = len(batch)
        prepared = time.monotonic_ns()
        generations, after, (forward_ns, _) = self._model.generate_token(batch)
        called = time.monotonic_ns()
        tokens, finished = self._tokens(generations)
        if after is not None:
            after = self._without_finished(after)
        if admitted and ran:
            self._fresh = after
        else:
            self._running = after
        if admitted:
            self._turns.prefilled(ran)
        else:
            self._turns.decoded()
        end = time.monotonic_ns()
        return StepReport(
            start_ns=start,
            end_ns=end,
            tokens=tokens,
            finished=finished,
            prefill_tokens=sum(len(request.prompt) for _, request in admitted),
            decode_tokens=0 if admitted else size,
            running=size,
            waiting=len(self._queue),
            preempted=0,
            kv_usage=self._pool.usage if self._paged else None,
            schedule_ns=scheduled - start,
            prepare_ns=prepared - scheduled,
            execute_ns=forward_ns,
            update_ns=max(called - prepared - forward_ns, 0) + end - called,
        )

    def has_work(self) -> bool:
        return bool(self._queue or self._left)

    def close(self) -> None:
        self._running = self._fresh = self._model = None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    # ---------------------------------------------------------------- the scheduler that TGI has in its router

    def _admit(self) -> list[tuple[int, Request]]:
        """Takes requests from the queue's head for a prefill; none where those that run have their turn."""
        wanted = self._turns.wanted(len(self._left))
        if wanted is None or (count := self._fitting()) < wanted:
            return []
        admitted = list(enumerate(self._queue[:count], self._next))
        del self._queue[:count]
        self._next += count
        for name, request in admitted:
            self._pool.take(name, request)
            self._index[name], self._left[name] = request.index, request.output_tokens
        return admitted

    def _fitting(self) -> int:
        """How many of the queue places, the step's tokens and the KV cache allow."""
        count, tokens, blocks = 0, self._step_tokens, self._pool.free
        for request in self._queue[: self._places - len(self._left)]:
            tokens, blocks = tokens - len(request.prompt), blocks - self._pool.needs(request)
            if tokens < 0 or blocks < 0:
                break
            count += 1
        return count

    def _prefill_batch(self, admitted: list[tuple[int, Request]]) -> Any:
        """A batch of new requests. Its prompts are copies: the paged path appends its output to what it is given."""
        self._batches += 1
        pb = request_batch(self._batches, admitted, self._pool if self._paged else None)
        model = self._model
        prompts = [list(request.prompt) for _, request in admitted]
        if self._paged:
            return model.batch_type.from_tokenized(pb, model.tokenizer, prompts, model.dtype, model.device)
        return model.batch_type.from_pb(pb, self._prompts.holding(prompts), model.dtype, model.device)

    def _joined(self) -> Any:
        """What runs, with what the last prefill left."""
        batches = [batch for batch in (self._running, self._fresh) if batch is not None]
        joined = self._model.batch_type.concatenate(batches) if len(batches) > 1 else batches[0]
        self._running, self._fresh = joined, None
        if not self._paged:
            as_cache(joined)
        return joined

    def _tokens(self, generations: Any) -> tuple[list[tuple[int, list[int]]], list[int]]:
        tokens, finished = [], []
        for generation in generations:
            ids = [int(token) for token in generation.tokens.token_ids]
            tokens.append((self._index[generation.request_id], ids))
            self._left[generation.request_id] -= len(ids)
            if generation.generated_text is not None:
                finished.append(self._index.pop(generation.request_id))
                self._pool.give_back(generation.request_id)
                del self._left[generation.request_id]
        return tokens, finished

    def _without_finished(self, batch: Any) -> Any:
        kept = [request.id for request in batch.requests if request.id in self._left]
        return batch.filter(kept) if kept else None

    def _info(self, load: Load, arguments: dict[str, Any]) -> EngineInfo:
        model, s = self._model, load.settings
        dtype = str(model.dtype).removeprefix("torch.")
        tokens = self._pool.tokens if self._paged else None
        version = metadata.version(DISTRIBUTION)
        graphs = getattr(sys.modules.get("text_generation_server.models.flash_causal_lm"), "CUDA_GRAPHS", None)
        return EngineInfo(
            version=version,
            effective={
                "dtype": dtype,
                "quantization": getattr(model, "quantize", None),
                "tensor_parallel": model.world_size,
                "context_length": s["context_length"],
                "max_batch_size": self._places,
                "max_tokens_per_step": self._step_tokens,
                "kv_cache_tokens": tokens,
                "kv_block_tokens": block_tokens() if self._paged else None,
                "prefix_caching": False,
                "chunked_prefill": False,
                "cuda_graphs": None if load.device == "cpu" else bool(graphs),
                "async_scheduling": False,
                "attention_backend": server_globals().ATTENTION if self._paged else "transformers",
                "seed": s["seed"],
            },
            native=arguments,
            kv_cache_tokens=tokens,
            kv_cache_bytes=None if tokens is None else tokens * kv_bytes_per_token(load.config, dtype),
            weights_bytes=weights_bytes(model),
            notes=(
                BATCHED_HERE,
                # What TGI calls forward ends after sampling in flash_causal_lm.py, before it in causal_lm.py.
                f"sampling is part of the {'execute' if self._paged else 'update'} phase",
                *versions.notes(TITLE, version, self.versions),
            ),
        )


def cannot_report(load: Load) -> tuple[str, ...]:
    """The fields of a step that stay None with this load: its path on CPUs has no KV cache of a fixed size."""
    return Adapter.cannot_report if load.device == "cuda" else (*Adapter.cannot_report, "kv_usage")


def server_globals() -> Any:
    return sys.modules["text_generation_server.models.globals"]


def block_tokens() -> int:
    return server_globals().BLOCK_SIZE


def weights_bytes(model: Any) -> int | None:
    """Bytes of the weights: parameters, and the plain tensors that experts are (layers/moe/unquantized.py). None where
    they are quantized: those lie in objects of each kernel's own, with its scratch space beside them."""
    if getattr(model, "quantize", None) is not None:
        return None
    tensors = {}
    for module in model.model.modules():
        plain = [value for name, value in vars(module).items() if not name.startswith("_")]
        tensors.update({id(t): t for t in (*module._parameters.values(), *plain) if hasattr(t, "element_size")})
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) or None


def as_cache(batch: Any) -> None:
    """Batches joined or filtered hold lists of keys and values, which transformers no longer takes for a cache."""
    past = batch.past_key_values
    if isinstance(past, (list, tuple)):
        from transformers import DynamicCache

        batch.past_key_values = DynamicCache.from_legacy_cache(tuple(tuple(layer) for layer in past))
