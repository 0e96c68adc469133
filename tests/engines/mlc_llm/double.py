"""A double of `SyncMLCEngine`, after `EngineImpl::Step` (cpp/serve/engine.cc) without speculative decoding.

A step is the first of three actions that does anything: a prefill (new_request_prefill.cc), the check before
jump-forward decoding (batch_jumpforward.cc), which only preempts requests, and a decode (batch_decode.cc). The KV
cache is pages of 16 tokens and one more page. An action ends in one callback, with a usage record behind every request
that ends (ActionStepPostProcess). A prompt that is too long is refused while it is added. There is no prefix cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

PAGE_TOKENS = 16
GREEDY = {
    "temperature": 0.0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}
NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class Output:
    """A RequestStreamOutput."""

    def __init__(self, name: str, ids: list[int], reason: str | None = None, usage: dict[str, Any] | None = None):
        self._name = name
        self._stream = SimpleNamespace(
            delta_token_ids=ids,
            finish_reason=reason,
            request_final_usage_json_str=None if usage is None else json.dumps(usage),
            extra_prefix_string="",
        )

    def unpack(self) -> tuple[str, list[Any]]:
        return self._name, [self._stream]


class Engine:
    """`longest`: the longest sequence; `chunk`: positions an action; `total`: tokens of the KV cache; `places`: how
    many requests run at most; `fails_at`: the step that raises. `preempted`: requests preempted so far."""

    def __init__(
        self,
        callback: Any,
        longest: int = 100,
        chunk: int = 8,
        total: int = 4096,
        places: int = 64,
        fails_at: int = -1,
    ) -> None:
        self.callback, self.longest, self.chunk, self.total = callback, longest, chunk, total
        self.places, self.fails_at = min(places, chunk), fails_at  # CanPrefill of batch_prefill_base.cc
        self.pages = -(-total // PAGE_TOKENS) + 1  # paged_kv_cache.cc
        self.waiting: list[SimpleNamespace] = []
        self.running: list[SimpleNamespace] = []  # those with a prompt left are also among the waiting
        self.sums = {
            "engine_prefill_time_sum": 0.0,
            "engine_decode_time_sum": 0.0,
            "prompt_tokens_sum": 0,
            "prefill_tokens_sum": 0,
        }
        self.model_config_dicts: list[dict[str, Any]] = [{"quantization": "q0bf16", "sliding_window_size": -1}]
        self.steps, self.preempted, self.resets = 0, 0, 0

    def create_request(self, name: str, inputs: Any, generation: Any) -> SimpleNamespace:
        assert generation.debug_config.ignore_eos
        assert {name: getattr(generation, name) for name in GREEDY} == GREEDY
        prompt = len(inputs[0])
        return SimpleNamespace(
            name=name, prompt=prompt, left=prompt, kv=0, given=0, told=0, prefilled=0, limit=generation.max_tokens
        )

    def add_request(self, request: SimpleNamespace) -> None:
        assert request.name not in [other.name for other in (*self.waiting, *self.running)]
        if request.prompt >= self.longest:
            self._refuse(request, "length")
        else:
            self.waiting.append(request)

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.fails_at:
            raise ValueError("TVMError: CUDA: an illegal memory access was encountered")
        time.sleep(0.001)
        if self._prefill():
            return
        self._keep_free(10)  # MAX_AVG_JUMPFORWARD_PAGES_PER_REQUEST
        if not self._decode():
            assert not self.running, "Internal assumption violated"

    def metrics(self) -> dict[str, float]:
        return dict(self.sums)

    def reset(self) -> None:
        """Aborts what is there, and forgets its sums."""
        self.resets += 1
        for request in {id(request): request for request in (*self.waiting, *self.running)}.values():
            self._refuse(request, "abort")
        self.waiting, self.running = [], []
        self.sums = dict.fromkeys(self.sums, 0)

    def _refuse(self, request: SimpleNamespace, reason: str) -> None:
        """StreamBackErrorImpl."""
        self.callback([Output(request.name, [], reason), Output(request.name, [], None, NO_USAGE)])

    # ---------------------------------------------------------------- the actions

    def _prefill(self) -> bool:
        """In hybrid mode the tokens of those that run go along."""
        decoding = self._decoding()
        taken = list(self._admitted(decoding))
        if not taken:
            return False
        self.sums["engine_prefill_time_sum"] += 0.001
        for request, length in taken:
            if request not in self.running:
                self.running.append(request)
            request.kv, request.left = request.kv + length, request.left - length
            request.prefilled += length
            if not request.left:
                request.given += 1
                self.waiting.remove(request)
        self._extend(decoding)
        return True

    def _admitted(self, decoding: list[SimpleNamespace]) -> Iterator[tuple[SimpleNamespace, int]]:
        """(request, positions) of those that wait, in their order: GetRequestStateEntriesToPrefill."""
        free, held = self._free(), sum(request.kv for request in self.running)
        length = pages = batch = len(decoding)
        if batch > free:
            return
        for request in self.waiting:
            wanted = request.left
            while True:
                more = -(-wanted // PAGE_TOKENS)
                if (
                    batch < self.places
                    and length + wanted <= self.chunk
                    and pages + more + batch + 1 <= free
                    and held + length + wanted + 8 * (batch + 1) <= self.total
                ):
                    yield request, wanted
                    batch, length, pages = batch + 1, length + wanted, pages + more
                    break
                if wanted < request.left or self.chunk - length >= wanted or self.chunk == length:
                    return
                wanted = self.chunk - length  # a part of it
            if wanted < request.left:
                return

    def _decode(self) -> bool:
        if not self.running:
            return False
        self._keep_free(1)
        assert self._decoding(), "There should be at least one request state entry that can run decode"
        self.sums["engine_decode_time_sum"] += 0.001
        self._extend(self._decoding())
        return True

    def _extend(self, decoding: list[SimpleNamespace]) -> None:
        for request in decoding:
            request.kv, request.given = request.kv + 1, request.given + 1
        self._tell()

    def _keep_free(self, pages: int) -> None:
        """Preempts the last ones until so many pages are free for each that runs; their KV is lost."""
        while pages * len(self._decoding()) > self._free():
            request = self.running.pop()
            self.preempted += 1
            if not request.left:
                self.waiting.insert(0, request)
            request.left, request.kv = request.prompt + request.given, 0

    def _tell(self) -> None:
        outputs, usages = [], []
        for request in list(self.running):
            new, request.told = request.given - request.told, request.given
            done = request.given >= request.limit or request.prompt + request.given >= self.longest
            if new:
                outputs.append(Output(request.name, [7] * new, "length" if done else None))
            if done:
                self.running.remove(request)
                self.sums["prompt_tokens_sum"] += request.prompt
                self.sums["prefill_tokens_sum"] += request.prefilled
                extra = {"prompt_tokens": request.prompt, "prefill_tokens": request.prefilled}
                usages.append(Output(request.name, [], None, {**NO_USAGE, "extra": extra}))
        if outputs:
            self.callback(outputs + usages)

    def _decoding(self) -> list[SimpleNamespace]:
        return [request for request in self.running if not request.left]

    def _free(self) -> int:
        return self.pages - sum(-(-request.kv // PAGE_TOKENS) for request in self.running)
