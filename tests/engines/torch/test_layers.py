"""torch's rungs against a double of transformers' continuous batching; the real one is stepped by the real runs."""

from __future__ import annotations

import queue
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.contract import Nothing, Request
from innerloop.engines.torch import layers
from innerloop.engines.torch.layers import CoreSession, EngineSession
from tests.waiting import PATIENCE_S, until

DONE = "finished"
CONTEXT = 1 << 20


class Processor:
    """Every request gets one token a step, all of them together; follows 5.23's `ContinuousBatchProcessor`."""

    def __init__(self, input_queue: Any, router: Any) -> None:
        self.input_queue, self.router = input_queue, router
        self.states: list[Any] = []
        self.fail_at: int | None = None
        self.steps = 0
        self.inputs_and_outputs = SimpleNamespace(requests_in_batch=[], retrieve_device_outputs=lambda: None)
        self.scheduler = SimpleNamespace(
            schedule_batch=lambda: time.sleep(0.001), waiting_requests={}, active_requests={}
        )
        self.cache = SimpleNamespace(
            compute_free_capacity=lambda: 0.75, search_prefix_match=lambda request_id, prompt_ids: 0
        )
        self.offloading_manager = SimpleNamespace(offload_requests=lambda: True)

    def has_pending_requests(self) -> bool:
        return bool(self.states)

    def prepare_next_batch(self) -> bool:
        while not self.input_queue.empty():
            self.states.append(self.input_queue.get())
        if not self.states:
            return False
        self.scheduler.schedule_batch()
        self.inputs_and_outputs.requests_in_batch = [
            SimpleNamespace(
                state=state, has_new_token=True, query_length=1 if state.generated_tokens else len(state.initial_tokens)
            )
            for state in self.states
        ]
        return True

    def _generation_step(self, model: Any) -> None:
        if self.fail_at == self.steps:
            raise RuntimeError("out of blocks")
        self.steps += 1
        time.sleep(0.001)
        self.inputs_and_outputs.retrieve_device_outputs()

    def update_batch(self) -> None:
        outputs = []
        for state in self.states:
            state.generated_tokens.append(state.initial_tokens[0] + len(state.generated_tokens))
            if len(state.generated_tokens) == state.max_new_tokens:
                state.status = DONE
            if state.streaming or state.status == DONE:
                outputs.append(
                    SimpleNamespace(
                        request_id=state.request_id,
                        generated_tokens=state.generated_tokens[:],
                        status=state.status,
                        error=None,
                    )
                )
        self.states = [state for state in self.states if state.status != DONE]
        if outputs:
            self.router.deliver_batch(outputs)


class Manager:
    def __init__(self) -> None:
        self.model = None
        self.input_queue: queue.Queue[Any] = queue.Queue()
        self.output_router = SimpleNamespace(output_queue=queue.Queue(), deliver_batch=self._deliver)
        self.batch_processor = Processor(self.input_queue, self.output_router)
        self.background_thread_status = SimpleNamespace(fatal_error=None)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.destroyed = False

    def _deliver(self, outputs: list[Any]) -> None:
        for output in outputs:
            self.output_router.output_queue.put(output)

    def add_request(self, input_ids: list[int], request_id: str, max_new_tokens: int, **more: Any) -> None:
        self.input_queue.put(
            SimpleNamespace(
                request_id=request_id,
                initial_tokens=input_ids,
                max_new_tokens=max_new_tokens,
                generated_tokens=[],
                status="running",
                streaming=more.get("streaming", False),
                _true_initial_tokens=0,
            )
        )

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self.batch_processor.prepare_next_batch():
                    self.batch_processor._generation_step(self.model)
                    self.batch_processor.update_batch()
                else:
                    time.sleep(0.001)
        except RuntimeError as error:
            self.background_thread_status.fatal_error = error

    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self, block: bool, timeout: float, hard_stop: bool) -> None:
        self._stopping.set()
        assert self._thread is not None
        self._thread.join(timeout)

    def destroy(self) -> None:
        self.destroyed = True


def steps(rung: Any) -> list[Any]:
    reports: list[Any] = []

    def ended() -> bool:
        if rung.has_work():
            reports.append(rung.step(None))
        return not rung.has_work()

    until(ended)
    return [report for report in reports if not isinstance(report, Nothing)]


@pytest.mark.parametrize("kind", [CoreSession, EngineSession])
def test_both_rungs_give_every_token_once_in_order_and_say_what_a_step_was(kind):
    rung = kind(Manager(), DONE, CONTEXT)
    for index, tokens in ((3, 2), (8, 4)):
        rung.submit(rung.prepare(Request(index, [100 * index] * 5, tokens)))
    reports = steps(rung)
    rung.close()
    got: dict[int, list[int]] = {}
    for report in reports:
        for index, ids in report.tokens:
            got.setdefault(index, []).extend(ids)
    assert got == {3: [300, 301], 8: [800, 801, 802, 803]}
    assert sorted(index for report in reports for index in report.finished) == [3, 8]
    assert sum(report.prefill_tokens for report in reports) == 10
    assert sum(report.decode_tokens for report in reports) == 4
    assert {report.kv_usage for report in reports} == {0.25}
    phases = ("schedule_ns", "prepare_ns", "execute_ns", "wait_ns", "update_ns")
    for report in reports:
        assert report.schedule_ns >= 1_000_000  # what the double sleeps
        assert report.execute_ns >= 1_000_000
        assert sum(getattr(report, phase) for phase in phases) <= report.end_ns - report.start_ns
        assert report.sample_ns is None


def test_the_engines_thread_may_be_ahead_and_each_step_still_has_its_own_tokens():
    manager = Manager()
    rung = EngineSession(manager, DONE, CONTEXT)
    rung.submit(rung.prepare(Request(0, [10], 5)))
    until(lambda: manager.output_router.output_queue.qsize() == 5)  # nobody looks while all steps are run
    reports = steps(rung)
    rung.close()
    assert [list(report.tokens) for report in reports] == [[(0, [10 + k])] for k in range(5)]


def test_a_step_that_only_waits_returns_when_the_next_request_is_due():
    rung = EngineSession(Manager(), DONE, CONTEXT)
    due = time.monotonic_ns() + 10_000_000
    assert isinstance(rung.step(due), Nothing)
    assert time.monotonic_ns() >= due
    rung.close()


def test_an_engine_whose_thread_has_died_is_an_error_in_its_own_words():
    manager = Manager()
    manager.batch_processor.fail_at = 1
    rung = EngineSession(manager, DONE, CONTEXT)
    rung.submit(rung.prepare(Request(0, [10], 5)))
    with pytest.raises(RuntimeError, match="out of blocks"):
        steps(rung)
    rung.close()
    assert manager.destroyed


def test_closing_stops_the_thread_also_in_the_middle_of_requests(monkeypatch):
    monkeypatch.setattr(layers, "STOP_S", PATIENCE_S)
    manager = Manager()
    rung = EngineSession(manager, DONE, CONTEXT)
    rung.submit(rung.prepare(Request(0, [10], 100_000)))
    rung.step(None)
    rung.close()
    assert not manager.is_running()
    assert manager.destroyed
