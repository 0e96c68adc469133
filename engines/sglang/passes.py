"""SGLang's event loop, one pass at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from innerloop.engines.support.batch import Batch
from innerloop.engines.support.marks import ranged
from innerloop.engines.support.phases import Phases


class Waited:
    """The event that a batch's tokens have arrived, with the time spent waiting for it counted."""

    def __init__(self, synchronize: Callable[[], Any]) -> None:
        self.synchronize = synchronize


class Passes:
    """Does what one pass of `Scheduler.event_loop_overlap` does, or of `event_loop_normal` where overlap is off.

    With overlap a pass launches one batch and then processes the one before. Sampling is part of the execute phase.
    The sockets on which requests would come are not polled. What the scheduler would send to other processes stays
    here: `streamed` holds what the detokenizer would get, `refused` what the tokenizer would.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler, self.overlap = scheduler, bool(scheduler.enable_overlap)
        self.streamed: list[Any] = []
        self.refused: list[str] = []
        self.batches: deque[Batch] = deque()  # launched and not yet reported, the oldest first
        self._unscheduled: set[str] = set()  # requests that were in no batch yet
        self._preempted = 0
        self._dropped: set[str] = set()  # retracted while a batch of theirs was in flight: its token is dropped
        self._observe()
        self.phases = Phases("schedule", "execute", "wait", "update")
        timed = self.phases.timed
        self._ingest = timed("schedule", scheduler.process_input_requests)
        self._schedule = timed("schedule", scheduler.get_next_batch_to_run)
        self._launch = timed("execute", ranged(self._ahead, scheduler.run_batch))
        self._process = timed("update", scheduler.process_batch_result, without="wait")
        if self.overlap:
            scheduler.enable_skip_finishing_decode = True
            scheduler.result_queue = deque()
            self._sample = timed("execute", ranged(self._ahead, scheduler.launch_batch_sample_if_needed))

    def run(self, requests: Sequence[Any] = ()) -> Any:
        """One pass of the event loop, with these requests; the batch that it processed, if any."""
        s = self._scheduler
        if requests:
            self._unscheduled.update(request.rid for request in requests)
            self._ingest(list(requests))
        plan = self._schedule(running_batch=s.running_batch, last_batch=s.last_batch)
        s.running_batch = plan.running_batch
        s.cur_batch_for_debug = batch = plan.batch_to_run
        if batch:
            begun = time.monotonic_ns()
            composition = self._composition(batch)
            composition.observer_ns = time.monotonic_ns() - begun
            self.batches.append(composition)
        done = self._overlapped(batch) if self.overlap else self._in_order(batch)
        s.last_batch = batch
        return done

    def _in_order(self, batch: Any) -> Any:
        s = self._scheduler
        if not batch:
            s._sched_idled = True
            s.on_idle()
            return None
        self._process(batch, self._launch(batch))
        return batch

    def _overlapped(self, batch: Any) -> Any:
        s, done, result = self._scheduler, None, None
        sync_previous = s.is_disable_overlap_for_batch(batch, last_batch=s.last_batch)
        if sync_previous:
            done = self._process_oldest()
        if batch:
            result = self._launch(batch)
            s._apply_war_barrier()
            s.result_queue.append((batch.copy(), result))
        else:
            s._sched_idled = True
        if s.last_batch:
            if not sync_previous:
                done = self._process_oldest()
        elif batch is None:
            s.on_idle()
        self._sample(result, batch)
        return done

    def _process_oldest(self) -> Any:
        batch, result = self._scheduler.result_queue.popleft()
        if result.copy_done is not None:
            result.copy_done = Waited(self.phases.timed("wait", result.copy_done.synchronize))
        self._process(batch, result)
        return batch

    def _ahead(self) -> str:
        """For profilers: how many steps after this one the batch comes out that is launched now."""
        return f"ahead {max(len(self.batches) - 1, 0)}"

    def _observe(self) -> None:
        """Keeps what the scheduler sends, and notes whom it preempts."""
        scheduler = self._scheduler
        channels = scheduler.ipc_channels
        channels.send_to_detokenizer.send_output = lambda output, *args, **kwargs: self.streamed.append(output)
        channels.send_to_tokenizer.send_output = lambda output, *args, **kwargs: self.refused.append(str(output))
        queued = scheduler._add_request_to_queue

        def counted(req: Any, is_retracted: bool = False) -> Any:
            self._preempted += is_retracted
            if is_retracted and any(req in batch.reqs for batch, _ in scheduler.result_queue):
                self._dropped.add(req.rid)
            return queued(req, is_retracted=is_retracted)

        scheduler._add_request_to_queue = counted

    def _composition(self, batch: Any) -> Batch:
        """Counts a batch's positions.

        A prefill batch may hold decoding requests too (enable_mixed_chunk), and requests that come back after a
        retraction, of whose positions the newest token's is decode and the others are prefill; but where the batch
        that computed the newest position was in flight at the retraction, that position has been reported as decode.
        """
        running = len(batch.reqs)
        prefill, decode, cached = 0, running, 0
        if batch.forward_mode.is_extend():
            decoding = len(batch.decoding_reqs or ())
            prefilling = batch.reqs[: running - decoding]
            resumed = {req.rid for req in prefilling if req.output_ids and req is not batch.chunked_req}
            recomputed = len(resumed - self._dropped)
            self._dropped -= resumed
            decode = decoding + recomputed
            prefill = batch.extend_num_tokens - decode
            cached = sum(req.cached_tokens for req in prefilling if req.rid in self._unscheduled)
            self._unscheduled.difference_update(req.rid for req in prefilling)
        preempted, self._preempted = self._preempted, 0
        usage = self._scheduler.pool_stats_observer.get_pool_stats().get_kv_token_stats()[1]
        waiting = len(self._scheduler.waiting_queue)
        return Batch(prefill, decode, running, waiting, preempted, usage, cached)
