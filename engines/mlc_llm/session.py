"""One loaded `SyncMLCEngine`, stepped in this process: one action each, and what its callback and sums say of it."""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import dataclass
from typing import Any

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.mlc_llm.settings import FREE_PAGES, PAGE_TOKENS, SPARE_TOKENS
from innerloop.engines.support.marks import ranged


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request has to fit into, in tokens; None where that is not known. `total` is the KV cache."""

    context_length: int | None = None
    total: int | None = None


class Stream:
    """The engine's callback: collects (request id, new tokens, whether it is finished) until they are taken."""

    def __init__(self) -> None:
        self.events: list[tuple[int, list[int], bool]] = []

    def __call__(self, outputs: Any) -> None:
        """Called with the requests that have news; usage records bring neither tokens nor an end."""
        for output in outputs:
            name, streams = output.unpack()
            stream = streams[0]
            self.events.append((int(name), list(stream.delta_token_ids), stream.finish_reason is not None))

    def take(self) -> list[tuple[int, list[int], bool]]:
        events, self.events = self.events, []
        return events


class MlcSession(Session):
    """Steps `SyncMLCEngine.step`: one action each, the prefill of waiting requests or a token for all that run.

    With its default prefill mode (hybrid) a prefill also carries the tokens of requests that run. Tokens come through
    a callback on the stepping thread, which a refused request calls already while it is submitted. The engine tells
    neither which prompt tokens an action took, nor its queues, nor the KV cache's use. How many positions it computed
    again, of the requests that ended, is logged when it is closed.

    Its metrics are a text of all that it ever counted, which takes some 0.2 ms to make and read while the device stands
    still. So they are only read where the callback alone does not say whether a step computed anything: while a request
    without output may be prefilled in parts, and after a step without events.
    """

    def __init__(
        self, engine: Any, stream: Stream, limits: Limits | None = None, seed: int = 0, caches_prefixes: bool = False
    ) -> None:
        """Takes charge of an engine whose callback is `stream`."""
        from mlc_llm.protocol.debug_protocol import DebugConfig
        from mlc_llm.protocol.generation_config import GenerationConfig
        from mlc_llm.serve.data import TokenData

        self._engine, self._stream, self._limits, self._seed = engine, stream, limits or Limits(), seed
        self._make_generation, self._make_debug, self._make_tokens = GenerationConfig, DebugConfig, TokenData
        self._run_action: Any = ranged("execute", engine.step)
        self._caches_prefixes = caches_prefixes
        self._open: set[int] = set()
        self._decoding: set[int] = set()  # requests that have output
        self._observer_ns = 0  # not reported yet
        self._idle = False  # whether the last step computed nothing
        self._recomputed = self._recomputed_before = 0  # positions; those before the engine was last reset
        self._sums: tuple[float, float] | None = self._action_sums()  # None: not read after the last step

    def prepare(self, request: Request) -> tuple[int, Any]:
        """(id, the engine's request).

        Raises:
            ValueError: it would never be admitted, or be cut short.
        """
        prompt, longest, total = len(request.prompt), self._limits.context_length, self._limits.total
        if longest is not None and prompt + request.output_tokens > longest:
            raise ValueError(f"request {request.id} is longer than context_length {longest}")
        if total is not None and prompt + max(request.output_tokens - 1, 0) + SPARE_TOKENS > total:
            raise ValueError(
                f"request {request.id} ({prompt} + {request.output_tokens} tokens) does not fit into the KV cache "
                f"(kv_cache_tokens {total}), of which MLC-LLM keeps {SPARE_TOKENS} tokens free per request"
            )
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
        return request.id, self._engine.create_request(str(request.id), inputs, generation)

    def submit(self, prepared: tuple[int, Any]) -> None:
        request, made = prepared
        if self._sums is None:
            self._read_sums()
        self._open.add(request)
        self._engine.add_request(made)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if not self._open:
            return Nothing.FLUSHED
        start = time.monotonic_ns()
        if not self._stream.events:  # a request refused on its way in is told without an action
            self._run_action()
        end = time.monotonic_ns()
        events = self._stream.take()
        before, self._sums = self._sums, None
        if not events:
            self._read_sums()
            if before is None or self._sums == before:
                self._computed_nothing()
                return Nothing.FLUSHED
        self._idle = False
        tokens: dict[int, list[int]] = {}
        finished, decode = [], 0
        for request, ids, done in events:
            if ids:
                decode += request in self._decoding and request not in tokens
                tokens.setdefault(request, []).extend(ids)
            if done:
                finished.append(request)
        self._decoding.update(tokens)
        self._decoding.difference_update(finished)
        self._open.difference_update(finished)
        if self._sums is None and len(self._open) > len(self._decoding):
            self._read_sums()
        observer_ns, self._observer_ns = self._observer_ns, 0
        return StepReport(
            start_ns=start,
            end_ns=end,
            tokens=list(tokens.items()),
            finished=finished,
            decode_tokens=decode,
            cached_tokens=None if self._caches_prefixes else 0,
            drafted_tokens=0,
            accepted_tokens=0,
            observer_ns=observer_ns,
        )

    def has_work(self) -> bool:
        return bool(self._open)

    def reset_caches(self) -> bool:
        """Resets the engine, which MLC-LLM's own benchmark does between runs (tests/python/serve/evaluate_engine.py).
        Without a prefix cache there is nothing to empty."""
        if self._caches_prefixes:
            self._action_sums()
            self._recomputed_before += self._recomputed
            self._engine.reset()
            self._sums = self._action_sums()
        return True

    def close(self) -> None:
        self._action_sums()
        recomputed = self._recomputed_before + self._recomputed
        if recomputed > 0:
            print(
                f"mlc_llm: at least {recomputed} positions were recomputed, warm-up included: requests were "
                f"preempted because the KV cache ran out of free pages",
                file=sys.stderr,
                flush=True,
            )
        engine, self._engine, self._run_action = self._engine, None, None
        try:
            engine.reset()
        finally:
            del engine
            gc.collect()  # what holds the device's memory is C++ objects that end with their last reference

    def _read_sums(self) -> None:
        begun = time.monotonic_ns()
        self._sums = self._action_sums()
        self._observer_ns += time.monotonic_ns() - begun

    def _action_sums(self) -> tuple[float, float]:
        """Seconds in prefills and in decodes so far; both stand still in a step that takes no action (engine.cc)."""
        metrics = self._engine.metrics()
        # Positions computed again, less what a prefix cache held: both sums grow as requests end (metrics.h).
        self._recomputed = metrics["prefill_tokens_sum"] - metrics["prompt_tokens_sum"]
        return metrics["engine_prefill_time_sum"], metrics["engine_decode_time_sum"]

    def _computed_nothing(self) -> None:
        """One such step may have preempted all that ran; the next then admits the first of those that wait, or none
        ever will be.

        Raises:
            RuntimeError: it is the second in a row.
        """
        if self._idle:
            known = f" (kv_cache_tokens {self._limits.total})" if self._limits.total is not None else ""
            waiting = "1 waiting request" if len(self._open) == 1 else f"{len(self._open)} waiting requests"
            raise RuntimeError(
                f"MLC-LLM is stuck with {waiting}: the first does not fit into the KV cache{known}, which must have "
                f"room for the request's tokens, {SPARE_TOKENS} more, and {FREE_PAGES} free pages of {PAGE_TOKENS} "
                "tokens per running request. Raise kv_cache_tokens."
            )
        self._idle = True
