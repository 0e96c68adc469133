"""A double of TensorRT-LLM's `PyExecutor`.

Its two loops follow `_executor_loop` and `_executor_loop_overlap` of py_executor.py, 1.2: a thread of its own, a queue,
and with overlap the tokens of a batch one pass after its launch. A pass that launches nothing keeps the batch before it
as the previous one, whose tokens it has just given: the next pass handles that batch once more.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from tests.engines.tensorrt_llm.double_requests import LlmRequest, Response, Result
from tests.waiting import PATIENCE_S

BLOCKS = 40
CONTEXT_LENGTH = 4096
SHUTDOWN, CONTROL = object(), object()


class PyExecutor:
    """`budget`: prompt positions a pass; `cut`: tokens by which every output falls short.

    fails_at, dies_at: the pass whose forward step fails, and the one whose scheduler raises, which ends the loop.
    withholds: whether `createResult` (llmRequest.cpp) makes no response for a request whose last token is on its way.
    chunked: whether a prompt longer than `budget` is split; else the scheduler raises.
    held: positions of any prompt that are in the prefix cache.
    pauses_at: the pass in which all that run are paused.
    expects: requests without which there is no second pass. `at_rest` is set while the loop waits for its queue.
    """

    def __init__(
        self,
        overlap: bool,
        budget: int = 8,
        cut: int = 0,
        fails_at: int = -1,
        dies_at: int = -1,
        withholds: bool = False,
        chunked: bool = True,
        held: int = 0,
        pauses_at: int = -1,
        expects: int = 0,
    ) -> None:
        self.disable_overlap_scheduler, self.budget, self.cut = not overlap, budget, cut
        self.fails_at, self.dies_at, self.withholds, self.passes = fails_at, dies_at, withholds, 0
        self.held = held
        self.pauses_at, self.expects, self.fetched, self.at_rest = pauses_at, expects, 0, threading.Event()
        self.requests: queue.Queue[Any] = queue.Queue()
        self.is_shutdown, self.shutdown_event = False, threading.Event()
        self.active_requests: list[LlmRequest] = []
        self.previous_batch: Any = None
        self.responses: dict[int, list[Any]] = {}
        self.canceled: list[int] = []
        self.control_requests = 0
        self.control_request_barrier, self.control_action_done = threading.Event(), threading.Event()
        self.describe(chunked)
        self.resource_manager = SimpleNamespace(prepare_resources=self._add_sequences)
        self.worker_thread = threading.Thread(target=self._event_loop_wrapper, daemon=True)
        self.worker_thread.start()

    def describe(self, chunked: bool) -> None:
        """What it says of itself, as of an unquantized model and a small KV cache."""
        stats = SimpleNamespace(used_num_blocks=10, max_num_blocks=BLOCKS, tokens_per_block=32)
        self.kv_cache_manager = SimpleNamespace(get_kv_cache_stats=lambda: stats, dtype=SimpleNamespace(name="BF16"))
        self.model_engine = SimpleNamespace(
            dtype="torch.bfloat16",
            max_seq_len=CONTEXT_LENGTH,
            max_num_tokens=self.budget,
            attn_runtime_features=SimpleNamespace(chunked_prefill=chunked),
            model=SimpleNamespace(
                model_config=SimpleNamespace(quant_config=SimpleNamespace(quant_algo=None)), parameters=lambda: []
            ),
        )
        # py_executor_creator.py: with overlap a sequence may be one longer.
        self.max_seq_len = CONTEXT_LENGTH + (0 if self.disable_overlap_scheduler else 1)
        self.max_batch_size, self.max_num_tokens, self.enable_kv_cache_reuse = 64, self.budget, False
        self.llm_args = SimpleNamespace(
            tensor_parallel_size=1,
            kv_cache_config=SimpleNamespace(dtype="auto"),
            enable_chunked_prefill=chunked,
            cuda_graph_config=None,
            attn_backend="TRTLLM",
        )

    def shutdown(self) -> None:
        self.requests.put(SHUTDOWN)
        assert self.shutdown_event.wait(PATIENCE_S), "its loop ends only when its requests have"
        self.worker_thread.join(PATIENCE_S)

    def cancel_request(self, name: int) -> None:
        self.requests.put(name)

    @contextlib.contextmanager
    def control_action(self) -> Iterator[PyExecutor]:
        self.requests.put(CONTROL)
        assert self.control_request_barrier.wait(PATIENCE_S), "its loop answers only when it has no requests"
        try:
            yield self
        finally:
            self.control_action_done.set()
            self.control_request_barrier.clear()

    def reset_prefix_cache(self) -> None:
        assert self.control_request_barrier.is_set(), "its loop may be using the KV cache"
        self.held = 0

    def _event_loop_wrapper(self) -> None:
        try:
            self._event_loop()
        finally:
            self.shutdown_event.set()

    def _event_loop(self) -> None:
        """Once it was shut down amid requests, it still waits for something to fetch when the last of them has gone."""
        while True:
            self._fetch()
            if self.is_shutdown and not self.active_requests:
                break
            self.passes += 1
            batch = self._schedule()[0]
            self._handle_control_request()
            if self.disable_overlap_scheduler:
                self._plain_pass(batch)
            else:
                self._overlapped_pass(batch)

    def _plain_pass(self, batch: Any) -> None:
        if self._size(batch):
            self.resource_manager.prepare_resources(batch)
            outputs = self._forward_step(batch)
            self._update_requests(self._sample_async(batch, outputs), self.resource_manager)
            self._handle_canceled_requests()
            self._handle_responses()

    def _overlapped_pass(self, batch: Any) -> None:
        state = outputs = None
        if self._size(batch):
            self.resource_manager.prepare_resources(batch)
            outputs = self._forward_step(batch, None)
        if self.previous_batch is not None:
            self._update_requests(self.previous_batch.sample_state)
        if self._size(batch):
            state = self._sample_async(batch, outputs)
            assert state is not None, "Sampling failed"
        if self.previous_batch is not None:
            self._handle_canceled_requests()
            self._handle_responses()
        if state is not None:
            self.previous_batch = SimpleNamespace(sample_state=state)

    def _handle_control_request(self) -> None:
        if self.control_requests and not self.active_requests:
            self.control_requests -= 1
            self.control_request_barrier.set()
            self.control_action_done.wait()
            self.control_action_done.clear()

    def _add_sequences(self, batch: Any) -> None:
        for request in batch.context_requests:
            if request.context_current_position == 0:
                found = min(self.held, request.context - 1)
                request.context_current_position, request.context = found, request.context - found
                request.context_chunk_size = min(request.context_chunk_size, request.context)
                request.is_last_context_chunk = request.context_chunk_size == request.context

    def _size(self, batch: Any) -> int:
        return len(batch.context_requests) + len(batch.generation_requests)

    def _fetch(self) -> None:
        """As `_get_from_request_queue`: one item where it had to wait for it, else all that are there."""
        items: list[Any] = []
        if self.requests.empty() and not self.active_requests:
            self.at_rest.set()
            items.append(self.requests.get())
            self.at_rest.clear()
        else:
            while self.fetched + len(items) < self.expects:
                items.append(self.requests.get())
            with contextlib.suppress(queue.Empty):
                while True:
                    items.append(self.requests.get_nowait())
        for item in items:
            if item is SHUTDOWN:
                self.is_shutdown = True
                break
            if item is CONTROL:
                self.control_requests += 1
            elif isinstance(item, int):
                self.canceled.append(item)
            else:
                self.fetched += 1
                self.active_requests.append(item)

    def _schedule(self) -> tuple[Any, list[Any], int]:
        if self.passes == self.dies_at:
            raise RuntimeError("no free block is left")
        paused = list(self.active_requests) if self.passes == self.pauses_at else []
        context, generation, left = [], [], self.budget
        for request in paused:
            request.context, request.launched = request.orig_prompt_len + request.given, request.given
            request.context_current_position = 0
        for request in self.active_requests:
            if request in paused or request.launched >= request.limit:
                continue
            if request.context:
                if not self.llm_args.enable_chunked_prefill and request.context > self.budget:
                    raise RuntimeError("The number of context tokens exceeds the limit value")
                if not left:
                    continue
                request.context_chunk_size = min(request.context, left)
                request.is_last_context_chunk = request.context_chunk_size == request.context
                left -= request.context_chunk_size
                context.append(request)
            else:
                generation.append(request)
        batch = SimpleNamespace(context_requests=context, generation_requests=generation, paused_requests=paused)
        return batch, [], len(context) + len(generation)

    def _forward_step(self, batch: Any, new_tensors_device: Any = None) -> Any:
        time.sleep(0.001)
        if self.passes == self.fails_at:
            self._handle_errors("CUDA error: an illegal memory access was encountered")
            return None
        batch.sampled = [r for r in batch.context_requests if r.is_last_context_chunk] + batch.generation_requests
        for request in batch.context_requests:
            request.context -= request.context_chunk_size
            request.context_current_position += request.context_chunk_size
        for request in batch.sampled:
            request.launched += 1
        return {}

    def _sample_async(self, batch: Any, outputs: Any) -> Any:
        return None if outputs is None else SimpleNamespace(scheduled_requests=batch)

    def _update_requests(self, sample_state: Any, resource_manager: Any = None) -> None:
        for request in sample_state.scheduled_requests.sampled if sample_state is not None else ():
            if request.given < min(request.launched, request.limit):
                request.given += 1
                request.untold.append(7)

    def _handle_canceled_requests(self) -> None:
        for request in self.active_requests:
            request.canceled |= request.py_request_id in self.canceled
        self.canceled.clear()

    def _handle_responses(self) -> list[Any]:
        """A running request that streams gets a response even where it holds nothing new; others only at their end."""
        responses, left = [], []
        for request in self.active_requests:
            to_complete = not self.disable_overlap_scheduler and request.launched >= request.limit
            running = request.streaming and request.launched and not (self.withholds and to_complete)
            if request.is_finished or running:
                ids, request.untold = request.untold, []
                result = Result(ids, request.is_finished)
                responses.append((request.py_request_id, Response(request.py_client_id, result)))
            if not request.is_finished:
                left.append(request)
        self.active_requests[:] = left
        self._enqueue_responses(responses)
        return []

    def _handle_errors(self, message: str) -> None:
        failed, self.active_requests[:] = list(self.active_requests), []
        self._enqueue_responses([(r.py_request_id, Response(r.py_client_id, None, message)) for r in failed])

    def _enqueue_responses(self, responses: Any) -> None:
        for name, response in responses:
            self.responses.setdefault(name, []).append(response)
