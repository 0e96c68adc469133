"""What is seen of `PyExecutor`'s loop: each pass as one record, told from the loop's own thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from innerloop.engines.support.batch import Batch
from innerloop.engines.support.marks import ranged
from innerloop.engines.support.phases import Phases

PHASES = ("schedule", "prepare", "execute", "wait", "sample", "update")


@dataclass(slots=True)
class Iteration:
    """One pass of the loop that brought out a batch. `responses` are LlmResponses; `spent` has each phase's ns."""

    start_ns: int
    end_ns: int
    batch: Batch
    responses: list[Any]
    spent: dict[str, int]


@dataclass(slots=True)
class Failure:
    """The engine gave up a request, or its loop ended with an exception."""

    message: str


class StepProbe:
    """Wraps the calls that make up a pass of the loop, on this instance only, and puts a record of each pass.

    The loop runs `_schedule`, `prepare_resources`, `_forward_step`, `_sample_async`, `_update_requests` and
    `_handle_responses`, the last two for the previous batch where it overlaps: even a second time, where the pass after
    it had nothing to launch. `_sample_async` returns the state by which `_update_requests` names its batch. What
    `_handle_responses` hands on to `_enqueue_responses` is kept from the executor's own store: nobody empties it here.

    All but `enqueued`, the requests handed to the executor so far, belongs to the loop's thread.
    """

    def __init__(self, executor: Any, put: Callable[[Iteration | Failure], None]) -> None:
        self._executor, self._put = executor, put
        self._phases = Phases(*PHASES)
        self.enqueued = 0
        self._begun: int | None = None  # where the pass began; None while the loop sleeps
        self._launched: Batch | None = None  # until it is sampled
        self._sampled: dict[int, Batch] = {}  # by id() of the sample state, alive until its update
        self._out: Batch | None = None  # whose tokens this pass brings
        self._responses: list[Any] = []
        self._active: set[int] = set()  # the executor's numbers of requests that were scheduled and still run
        self._evicted: set[int] = set()  # of those that were preempted once
        self._started = 0  # requests that are no longer waiting
        self._preempted = 0
        self._attach(executor, self._phases.timed)

    def _attach(self, executor: Any, timed: Callable[..., Any]) -> None:
        scheduling = timed("schedule", executor._schedule)
        forwarding = timed("execute", ranged(self._ahead, executor._forward_step))
        sampling = timed("sample", ranged(self._ahead, executor._sample_async))
        updating = timed("wait", executor._update_requests)
        responding = timed("update", executor._handle_responses)

        def schedule(*args: Any, **kwargs: Any) -> Any:
            self._begin()
            result = scheduling(*args, **kwargs)
            self._on_scheduled(result[0].paused_requests)
            return result

        def forward(batch: Any, *args: Any, **kwargs: Any) -> Any:
            begun = time.monotonic_ns()
            self._launched = launched = self._composition(batch)
            launched.observer_ns = time.monotonic_ns() - begun
            return forwarding(batch, *args, **kwargs)

        def sample(*args: Any, **kwargs: Any) -> Any:
            state = sampling(*args, **kwargs)
            if self._launched is not None:
                self._sampled[id(state)], self._launched = self._launched, None
            return state

        def update(state: Any, *args: Any, **kwargs: Any) -> Any:
            # The executor holds on to the state of its last batch: one seen before is not found here again.
            self._out = self._sampled.pop(id(state), None)
            return updating(state, *args, **kwargs)

        def respond(*args: Any, **kwargs: Any) -> Any:
            result = responding(*args, **kwargs)
            self._end()
            return result

        manager = executor.resource_manager
        manager.prepare_resources = timed("prepare", manager.prepare_resources)
        executor._schedule, executor._forward_step = schedule, forward
        executor._sample_async, executor._update_requests = sample, update
        executor._handle_responses, executor._enqueue_responses = respond, self._on_responses

    def _ahead(self) -> str:
        """For profilers: how many steps after this one the batch comes out that is launched now."""
        return f"ahead {len(self._sampled) + (self._out is not None)}"

    def _begin(self) -> None:
        if self._begun is None:
            self._begun = self._phases.begin()

    def _on_scheduled(self, paused: Any) -> None:
        for request in paused:
            self._preempted += 1
            if request.py_request_id in self._active:
                self._active.discard(request.py_request_id)
                self._evicted.add(request.py_request_id)
                self._started -= 1
        if not self._executor.active_requests:  # it woke for a control action, and sleeps again
            self._begun = None

    def _composition(self, batch: Any) -> Batch:
        """Counts a batch's positions before it runs: afterwards its requests have moved on.

        A request that comes back after a pause is prefill again, but for the newest token that it already had. By now
        `prepare_resources` has moved a new request past what its prompt found in the prefix cache.
        """
        prefill, decode, cached = 0, len(batch.generation_requests), 0
        for request in batch.context_requests:
            prefill += request.context_chunk_size
            if request.is_last_context_chunk and request.max_beam_num_tokens > request.orig_prompt_len:
                prefill, decode = prefill - 1, decode + 1
            if request.py_request_id not in self._active:
                self._active.add(request.py_request_id)
                self._started += 1
                if request.py_request_id not in self._evicted:
                    cached += request.context_current_position
        preempted, self._preempted = self._preempted, 0
        return Batch(
            prefill=prefill,
            decode=decode,
            running=len(batch.context_requests) + len(batch.generation_requests),
            waiting=max(self.enqueued - self._started, 0),
            preempted=preempted,
            cached=cached,
        )

    def _on_responses(self, responses: Any) -> None:
        """Stands for `_enqueue_responses`, which is also called with the errors of requests that were given up."""
        for number, response in responses:
            if response.has_error():
                self._put(Failure(response.error_msg))
            else:
                self._responses.append(response)
                if response.result.is_final:
                    self._active.discard(number)
                    self._evicted.discard(number)

    def _end(self) -> None:
        """Ends a pass. One that brought out no batch goes untold, and its time to the next."""
        batch, self._out = self._out, None
        if batch is None:
            return
        responses, spent = self._responses, dict(self._phases.spent)
        self._responses, now = [], self._phases.begin()
        start = now if self._begun is None else self._begun
        # The next pass follows at once where requests are left; else the loop sleeps until one comes.
        self._begun = now if self._executor.active_requests else None
        batch.kv_usage = self._kv_usage()
        batch.observer_ns += time.monotonic_ns() - now
        self._put(Iteration(start, now, batch, responses, spent))

    def _kv_usage(self) -> float | None:
        manager = self._executor.kv_cache_manager
        if manager is None:
            return None
        stats = manager.get_kv_cache_stats()
        return stats.used_num_blocks / stats.max_num_blocks if stats.max_num_blocks else None


def hook_thread(thread: threading.Thread, put: Callable[[Failure], None]) -> Callable[[], None]:
    """Tells of an exception that ends the loop's thread: py_executor.py's `_event_loop_wrapper` logs and raises it.

    Returns what undoes it.
    """
    earlier = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> Any:
        if args.thread is thread:
            put(Failure(f"{args.exc_type.__name__}: {args.exc_value}"))
        return earlier(args)

    def undo() -> None:
        if threading.excepthook is hook:
            threading.excepthook = earlier

    threading.excepthook = hook
    return undo
