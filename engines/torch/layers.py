"""The heights at which requests enter transformers' continuous batching: its batch processor, or its manager."""

from __future__ import annotations

import itertools
import queue
import time
from typing import Any

from innerloop.engines.contract import Request, StepReport
from innerloop.engines.support.waiting import seconds_left
from innerloop.engines.torch.phases import Watch

STOP_S = 5.0  # for the manager's thread to end


class CoreRung:
    """Steps `ContinuousBatchProcessor` in this thread: prepare_next_batch, _generation_step, update_batch."""

    notes: tuple[str, ...] = ()

    def __init__(self, manager: Any, finished_status: Any) -> None:
        self._manager, self._processor, self._done = manager, manager.batch_processor, finished_status
        self._ids = map(str, itertools.count())
        self._index: dict[str, int] = {}
        self._watch = Watch(self._processor)

    def submit(self, request: Request) -> None:
        name = next(self._ids)
        self._index[name] = request.index
        self._manager.add_request(
            request.prompt, request_id=name, max_new_tokens=request.output_tokens, eos_token_id=-1
        )

    def step(self, due_ns: int | None = None) -> StepReport | None:
        watch = self._watch
        if not watch.prepare():
            return None
        watch.execute(self._manager.model)
        watch.update()
        return watch.report(*self.taken(watch.batch))

    def taken(self, batch: Any) -> tuple[list[tuple[int, list[int]]], list[int]]:
        """Who of a batch that has run got which token ids, and who is finished; both by the requests' indices."""
        index, tokens, finished = self._index, [], []
        for scheduled in batch:
            if scheduled.has_new_token:
                state = scheduled.state
                tokens.append((index[state.request_id], state.generated_tokens[-1:]))
                if state.status == self._done:
                    finished.append(index.pop(state.request_id))
        if finished:
            self._manager.output_router.output_queue.queue.clear()  # nobody reads it, and it holds every token
        return tokens, finished

    def has_work(self) -> bool:
        return self._processor.has_pending_requests() or not self._manager.input_queue.empty()

    def close(self) -> None:
        self._manager.destroy()


class EngineRung:
    """Hands requests to a started `ContinuousBatchingManager` and takes what its output router delivers.

    Its own thread runs the steps; they are watched there, and end here, once their outputs have arrived: a step of this
    layer may overlap with the next one.
    """

    notes = ("the engine's own thread runs the steps; a step ends when its outputs have reached the caller's thread",)

    def __init__(self, manager: Any, finished_status: Any) -> None:
        self._manager, self._processor, self._done = manager, manager.batch_processor, finished_status
        self._ids = map(str, itertools.count())
        self._open: dict[str, tuple[int, int]] = {}  # name -> request, tokens seen
        self._steps: queue.SimpleQueue[tuple[StepReport, int]] = queue.SimpleQueue()
        self._delivered = 0
        self._watch_thread(Watch(self._processor))
        manager.start()

    def _watch_thread(self, watch: Watch) -> None:
        """Lets the manager's thread tell of each of its steps, with the number of outputs that it delivered."""
        processor, router = self._processor, self._manager.output_router
        deliver = router.deliver_batch

        def deliver_batch(outputs: Any) -> None:
            self._delivered = len(outputs)
            deliver(outputs)

        def update_batch() -> None:
            self._delivered = 0
            watch.update()
            self._steps.put((watch.report(), self._delivered))

        router.deliver_batch = deliver_batch
        processor.prepare_next_batch, processor._generation_step = watch.prepare, watch.execute
        processor.update_batch = update_batch

    def submit(self, request: Request) -> None:
        name = next(self._ids)
        self._open[name] = (request.index, 0)
        self._manager.add_request(
            request.prompt, request_id=name, max_new_tokens=request.output_tokens, eos_token_id=-1, streaming=True
        )

    def step(self, due_ns: int | None = None) -> StepReport | None:
        """Waits for the thread's next step, until `due_ns` at most.

        Raises:
            RuntimeError: the thread has ended, or a request has failed; the engine's own words.
        """
        try:
            report, delivered = self._steps.get(timeout=seconds_left(due_ns))
        except queue.Empty:
            if not self._manager.is_running():
                raise RuntimeError(
                    f"its thread has ended: {self._manager.background_thread_status.fatal_error}"
                ) from None
            return None
        tokens, finished = [], []
        for _ in range(delivered):
            output = self._manager.output_router.output_queue.get_nowait()
            index, seen = self._open[output.request_id]
            if output.error is not None:
                raise RuntimeError(f"request {index} failed: {output.error}")
            ids = output.generated_tokens[seen:]
            tokens.append((index, ids))
            self._open[output.request_id] = (index, seen + len(ids))
            if output.status == self._done:
                del self._open[output.request_id]
                finished.append(index)
        report.tokens, report.finished, report.end_ns = tokens, finished, time.monotonic_ns()
        return report

    def has_work(self) -> bool:
        return bool(self._open)

    def close(self) -> None:
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=STOP_S, hard_stop=True)
        self._manager.destroy()
