"""What is seen of `PyExecutor`'s loop: each pass as one record, told from the loop's own thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from innerloop.engines.support.batch import Batch

AWAKE_S = 0.02
PHASES = ("schedule", "prepare", "execute", "wait", "sample", "update")


@dataclass(slots=True)
class Iteration:
    """One pass of the loop that brought out a batch. `responses` holds (request id, LlmResponse)."""

    start_ns: int
    end_ns: int
    batch: Batch
    responses: list[tuple[int, Any]]
    spent: dict[str, int]


@dataclass(slots=True)
class Failure:
    """The engine gave up a request, or its loop ended with an exception."""

    message: str


def watch(executor: Any, say: Callable[[Iteration | Failure], None]) -> Watch:
    """Wraps the calls that make up a pass of the loop, on this instance only.

    The loop runs `_schedule`, `prepare_resources`, `_forward_step`, `_sample_async`, `_update_requests` and
    `_handle_responses`, the last two for the previous batch where it overlaps: even a second time, where the pass after
    it had nothing to launch. `_sample_async` returns the state by which `_update_requests` names its batch. What
    `_handle_responses` hands on to `_enqueue_responses` is kept from the executor's own store: nobody empties it here.
    """
    seen = Watch(executor, say)
    clock = time.monotonic_ns

    def timed(phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            begun = clock()
            try:
                return call(*args, **kwargs)
            finally:
                seen.spent[phase] += clock() - begun

        return wrapper

    schedules = timed("schedule", executor._schedule)
    runs = timed("execute", executor._forward_step)
    samples = timed("sample", executor._sample_async)
    updates = timed("wait", executor._update_requests)
    answers = timed("update", executor._handle_responses)

    def schedule(*args: Any, **kwargs: Any) -> Any:
        seen.begin()
        result = schedules(*args, **kwargs)
        seen.pause(result[0].paused_requests)
        return result

    def forward(batch: Any, *args: Any, **kwargs: Any) -> Any:
        seen.launch(batch)
        return runs(batch, *args, **kwargs)

    def sample(*args: Any, **kwargs: Any) -> Any:
        state = samples(*args, **kwargs)
        seen.sampled(state)
        return state

    def update(state: Any, *args: Any, **kwargs: Any) -> Any:
        seen.update(state)
        return updates(state, *args, **kwargs)

    def responses(*args: Any, **kwargs: Any) -> Any:
        result = answers(*args, **kwargs)
        seen.close()
        return result

    manager = executor.resource_manager
    manager.prepare_resources = timed("prepare", manager.prepare_resources)
    executor._schedule, executor._forward_step = schedule, forward
    executor._sample_async, executor._update_requests = sample, update
    executor._handle_responses, executor._enqueue_responses = responses, seen.take
    return seen


def watch_thread(thread: threading.Thread, say: Callable[[Failure], None]) -> Callable[[], None]:
    """Tells of an exception that ends the loop's thread: py_executor.py's `_event_loop_wrapper` logs and raises it.

    Returns what undoes it.
    """
    earlier = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> Any:
        if args.thread is thread:
            say(Failure(f"{args.exc_type.__name__}: {args.exc_value}"))
        return earlier(args)

    def undo() -> None:
        if threading.excepthook is hook:
            threading.excepthook = earlier

    threading.excepthook = hook
    return undo


def keep_awake(executor: Any, name: int, ended: threading.Event) -> None:
    """Cancels a request again and again until `ended`, so that a loop that was shut down amid requests comes to an end.

    It sees that it is to end only after it has fetched (`_prepare_and_schedule_batch` of py_executor.py), and once its
    last request has gone it waits there for something to fetch.
    """
    while not ended.wait(AWAKE_S):
        executor.cancel_request(name)


@dataclass(slots=True)
class Watch:
    """The state of what is seen; all but `enqueued` belongs to the loop's thread.

    enqueued: requests handed to the executor so far.
    """

    executor: Any
    say: Callable[[Iteration | Failure], None]
    enqueued: int = 0
    spent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    _begun: int | None = None  # where the pass began
    _launched: Batch | None = None  # until it is sampled
    _sampled: dict[int, Batch] = field(default_factory=dict)  # by id() of the sample state, alive until its update
    _out: Batch | None = None  # whose tokens this pass brings
    _responses: list[tuple[int, Any]] = field(default_factory=list)
    _active: set[int] = field(default_factory=set)  # ids of the requests that were scheduled and still run
    _started: int = 0  # requests that are no longer waiting
    _thrown: int = 0

    def begin(self) -> None:
        if self._begun is None:
            self._begun = time.monotonic_ns()

    def pause(self, requests: Any) -> None:
        for request in requests:
            self._thrown += 1
            if request.py_request_id in self._active:
                self._active.discard(request.py_request_id)
                self._started -= 1

    def launch(self, batch: Any) -> None:
        """Counts a batch's positions before it runs: afterwards its requests have moved on.

        A request that comes back after a pause is prefill again, but for the newest token that it already had.
        """
        prefill, decode = 0, len(batch.generation_requests)
        for request in batch.context_requests:
            prefill += request.context_chunk_size
            if request.is_last_context_chunk and request.max_beam_num_tokens > request.orig_prompt_len:
                prefill, decode = prefill - 1, decode + 1
            if request.py_request_id not in self._active:
                self._active.add(request.py_request_id)
                self._started += 1
        running = len(batch.context_requests) + len(batch.generation_requests)
        self._launched = Batch(prefill, decode, running, max(self.enqueued - self._started, 0), self._thrown)
        self._thrown = 0

    def sampled(self, state: Any) -> None:
        if self._launched is not None:
            self._sampled[id(state)], self._launched = self._launched, None

    def update(self, state: Any) -> None:
        """The executor holds on to the state of its last batch, so that one seen before is not found here again."""
        self._out = self._sampled.pop(id(state), None)

    def take(self, responses: Any) -> None:
        """Stands for `_enqueue_responses`, which is also called with the errors of requests that were given up."""
        for name, response in responses:
            if response.has_error():
                self.say(Failure(response.error_msg))
            else:
                self._responses.append((name, response))
                if response.result.is_final:
                    self._active.discard(name)

    def close(self) -> None:
        """Ends a pass. One that brought out no batch goes untold, and its time to the next."""
        batch, self._out = self._out, None
        if batch is None:
            return
        now = time.monotonic_ns()
        start = now if self._begun is None else self._begun
        given, spent = self._responses, self.spent
        self._responses, self.spent = [], dict.fromkeys(PHASES, 0)
        # The next pass follows at once where requests are left; else the loop sleeps until one comes.
        self._begun = now if self.executor.active_requests else None
        batch.kv_usage = self._kv_usage()
        self.say(Iteration(start, now, batch, given, spent))

    def _kv_usage(self) -> float | None:
        manager = self.executor.kv_cache_manager
        if manager is None:
            return None
        stats = manager.get_kv_cache_stats()
        return stats.used_num_blocks / stats.max_num_blocks if stats.max_num_blocks else None
