"""The layers of transformers' continuous batching: its batch processor, or its manager with a thread."""

from __future__ import annotations

import queue
import time
from functools import partial
from typing import Any

from innerloop.engines.contract import Bare, Nothing, Request, Session, StepReport
from innerloop.engines.support.waiting import seconds_left
from innerloop.engines.support.wrapping import unwrapped, wrapped
from innerloop.engines.torch.phases import StepProbe

STOP_S = 5.0  # for the manager's thread to end


class TorchSession(Session):
    """What both layers share: requests as the manager takes them, and what it holds."""

    notes: tuple[str, ...] = ()

    def __init__(self, manager: Any, finished_status: Any, context_length: int) -> None:
        self._manager, self._processor, self._done = manager, manager.batch_processor, finished_status
        self._context_length = context_length

    def prepare(self, request: Request) -> dict[str, Any]:
        """The arguments of the manager's `add_request`, which makes its own request from them."""
        if len(request.prompt) + request.output_tokens > self._context_length:
            raise ValueError(f"request {request.id} is longer than context_length {self._context_length}")
        return {
            "input_ids": request.prompt,
            "request_id": str(request.id),
            "max_new_tokens": request.output_tokens,
            "eos_token_id": -1,
            "streaming": True,
        }

    def submit(self, prepared: dict[str, Any]) -> None:
        self._manager.add_request(**prepared)

    def reset_caches(self) -> bool:
        evict = getattr(self._processor.cache, "evict_cached_blocks", None)
        if evict is None:
            return False
        evict()
        return True


class CoreSession(TorchSession):
    """Steps `ContinuousBatchProcessor` in this thread: prepare_next_batch, _generation_step, update_batch."""

    def __init__(self, manager: Any, finished_status: Any, context_length: int) -> None:
        super().__init__(manager, finished_status, context_length)
        self._probe = StepProbe(self._processor)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        probe = self._probe
        if not probe.prepare():
            return Nothing.FLUSHED
        probe.execute(self._manager.model)
        probe.update()
        self._manager.output_router.output_queue.queue.clear()  # nobody reads it, and it holds every token
        report = probe.report(*self.collect(probe.batch))
        if getattr(self._processor, "return_logprobs", False):
            report.log_probabilities = [one.state.logprobs[-1:] for one in probe.batch if one.has_new_token]
        return report

    def bare(self) -> Bare:
        processor = self._processor
        methods = wrapped(processor.scheduler, processor.inputs_and_outputs, processor.offloading_manager)
        return Bare(self._plain_step, self.collect, partial(unwrapped, *methods))

    def _plain_step(self) -> Any:
        processor = self._processor
        if not processor.prepare_next_batch():
            return []
        batch = processor.inputs_and_outputs.requests_in_batch
        processor._generation_step(self._manager.model)
        processor.update_batch()
        return batch

    def collect(self, batch: Any) -> tuple[list[tuple[int, list[int]]], list[int]]:
        """Who of a batch that has run got which token ids, and who is finished; both by the requests' ids."""
        tokens, finished = [], []
        for scheduled in batch:
            if scheduled.has_new_token:
                state = scheduled.state
                tokens.append((int(state.request_id), state.generated_tokens[-1:]))
                if state.status == self._done:
                    finished.append(int(state.request_id))
        return tokens, finished

    def has_work(self) -> bool:
        return self._processor.has_pending_requests() or not self._manager.input_queue.empty()

    def close(self) -> None:
        self._manager.destroy()


class EngineSession(TorchSession):
    """Hands requests to a started `ContinuousBatchingManager` and takes what its output router delivers.

    Its own thread runs the steps; they are watched there, and end here, once their outputs have arrived: a step of this
    layer may overlap with the next one.
    """

    notes = ("the engine's own thread runs the steps; a step ends when its outputs have reached the caller's thread",)

    def __init__(self, manager: Any, finished_status: Any, context_length: int) -> None:
        super().__init__(manager, finished_status, context_length)
        self._open: dict[int, int] = {}  # request -> tokens seen
        self._steps: queue.SimpleQueue[tuple[StepReport, int]] = queue.SimpleQueue()
        self._delivered = 0
        self._watch_thread(StepProbe(self._processor))
        manager.start()

    def _watch_thread(self, probe: StepProbe) -> None:
        """Lets the manager's thread tell of each of its steps, with the number of outputs that it delivered."""
        processor, router = self._processor, self._manager.output_router
        deliver = router.deliver_batch

        def deliver_batch(outputs: Any) -> None:
            self._delivered = len(outputs)
            deliver(outputs)

        def update_batch() -> None:
            self._delivered = 0
            probe.update()
            self._steps.put((probe.report(), self._delivered))

        router.deliver_batch = deliver_batch
        processor.prepare_next_batch, processor._generation_step = probe.prepare, probe.execute
        processor.update_batch = update_batch

    def submit(self, prepared: dict[str, Any]) -> None:
        self._open[int(prepared["request_id"])] = 0
        super().submit(prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        """Waits for the thread's next step, until `until_ns` at most.

        Raises:
            RuntimeError: the thread has ended, or a request has failed; the engine's own words.
        """
        try:
            report, delivered = self._steps.get(timeout=seconds_left(until_ns))
        except queue.Empty:
            if not self._manager.is_running():
                raise RuntimeError(f"its thread ended: {self._manager.background_thread_status.fatal_error}") from None
            return Nothing.TIMED_OUT
        tokens, finished = [], []
        for _ in range(delivered):
            output = self._manager.output_router.output_queue.get_nowait()
            request = int(output.request_id)
            if output.error is not None:
                raise RuntimeError(f"request {request} failed: {output.error}")
            ids = output.generated_tokens[self._open[request] :]
            tokens.append((request, ids))
            self._open[request] += len(ids)
            if output.status == self._done:
                del self._open[request]
                finished.append(request)
        report.tokens, report.finished, report.end_ns = tokens, finished, time.monotonic_ns()
        return report

    def has_work(self) -> bool:
        return bool(self._open)

    def close(self) -> None:
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=STOP_S, hard_stop=True)
        self._manager.destroy()
