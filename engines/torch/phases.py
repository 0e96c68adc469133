"""What is seen of a step of transformers' continuous batching: its phases and the composition of its batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from innerloop.engines.contract import StepReport
from innerloop.engines.support.marks import ranged
from innerloop.engines.support.phases import Phases


class StepProbe:
    """The three calls that make up a step of a `ContinuousBatchProcessor`, timed.

    Of `prepare_next_batch` the scheduler is `schedule` and the rest `prepare`; of `_generation_step` reading the tokens
    back is `wait` and the rest, sampling too, `execute`; `update_batch` is `update`.
    """

    def __init__(self, processor: Any) -> None:
        self._io, self._scheduler, self._cache = processor.inputs_and_outputs, processor.scheduler, processor.cache
        self._preparing = ranged("prepare", processor.prepare_next_batch)
        self._executing = ranged("execute", processor._generation_step)
        self._updating = ranged("update", processor.update_batch)
        self._phases = Phases("schedule", "wait")
        self._preempted = 0
        self._scheduler.schedule_batch = self._phases.timed("schedule", self._scheduler.schedule_batch)
        self._io.retrieve_device_outputs = self._phases.timed("wait", self._io.retrieve_device_outputs)
        self._count_evictions(processor.offloading_manager)
        self._count_matches()

    def prepare(self) -> bool:
        """Begins a step. Whether there is anything to do: else it was none."""
        self._preempted = self._cached = 0
        self._start = self._phases.begin()
        if not self._preparing():
            return False
        self._prepared = time.monotonic_ns()
        self.batch = self._io.requests_in_batch
        self._prefill, self._decode = count_positions(self.batch)
        self._waiting = len(self._scheduler.waiting_requests)
        self._kv_usage = 1.0 - self._cache.compute_free_capacity()
        self._observer_ns = time.monotonic_ns() - self._prepared
        return True

    def execute(self, model: Any) -> None:
        self._begun = time.monotonic_ns()
        self._executing(model)

    def update(self) -> None:
        self._updated = time.monotonic_ns()
        self._updating()
        self._end = time.monotonic_ns()

    def report(self, tokens: Sequence[tuple[int, Sequence[int]]] = (), finished: Sequence[int] = ()) -> StepReport:
        """The step that `update` has ended."""
        spent = self._phases.spent
        return StepReport(
            start_ns=self._start,
            end_ns=self._end,
            tokens=tokens,
            finished=finished,
            prefill_tokens=self._prefill,
            decode_tokens=self._decode,
            cached_tokens=self._cached,
            drafted_tokens=0,
            accepted_tokens=0,
            running=len(self.batch),
            waiting=self._waiting,
            preempted=self._preempted,
            kv_usage=self._kv_usage,
            schedule_ns=spent["schedule"],
            prepare_ns=self._prepared - self._start - spent["schedule"],
            execute_ns=self._updated - self._begun - spent["wait"],
            wait_ns=spent["wait"],
            update_ns=self._end - self._updated,
            observer_ns=self._observer_ns,
        )

    def _count_evictions(self, manager: Any) -> None:
        evict = manager.offload_requests

        def counted() -> Any:
            before = len(self._scheduler.active_requests)
            result = evict()
            self._preempted += before - len(self._scheduler.active_requests)
            return result

        manager.offload_requests = counted

    def _count_matches(self) -> None:
        """What a request's prompt finds in the prefix cache, the first time it is looked up."""
        search, known = self._cache.search_prefix_match, set[str]()

        def counted(request_id: str, prompt_ids: list[int]) -> Any:
            length = search(request_id, prompt_ids)
            if request_id not in known:  # else it was preempted, and these positions are computed ones
                known.add(request_id)
                self._cached += length
            return length

        self._cache.search_prefix_match = counted


def count_positions(batch: list[Any]) -> tuple[int, int]:
    """(prefill, decode) positions of a prepared batch.

    A request without output is in prefill. One that was preempted comes back with its output made part of its
    prompt: all of that is prefill again, but for the newest token.
    """
    total = decode = 0
    for scheduled in batch:
        total += scheduled.query_length
        state = scheduled.state
        had_output = state._true_initial_tokens and len(state.initial_tokens) > state._true_initial_tokens
        if state.generated_tokens or (had_output and scheduled.has_new_token):
            decode += 1
    return total - decode, decode
