"""SGLang's event loop, one pass at a time."""

from __future__ import annotations

import itertools
import time
from array import array
from collections import deque
from typing import Any

from innerloop.engines.contract import Request, StepReport
from innerloop.engines.support.batch import Batch
from innerloop.engines.support.marks import ranged

RESERVED_TOKENS = 2  # of its budget the scheduler keeps this much and a page free for each request (schedule_policy.py)


class Waited:
    """The event that a batch's tokens have arrived; the time spent waiting for it is added to a phase."""

    def __init__(self, event: Any, spent: dict[str, int]) -> None:
        self._event, self._spent = event, spent

    def synchronize(self) -> None:
        begun = time.monotonic_ns()
        self._event.synchronize()
        self._spent["wait"] += time.monotonic_ns() - begun


class Passes:
    """Does what one pass of `Scheduler.event_loop_overlap` does, or of `event_loop_normal` where overlap is off.

    With overlap a pass launches one batch and then takes the tokens of the one before: the report then carries the
    make-up of the batch whose tokens it returns and the phase times of the pass itself. Sampling is part of the
    execute phase. What the scheduler would send to other processes stays here.
    """

    def __init__(self, scheduler: Any) -> None:
        from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
        from sglang.srt.sampling.sampling_params import SamplingParams

        self._make_request, self._make_sampling = TokenizedGenerateReqInput, SamplingParams
        self._scheduler, self.overlap = scheduler, bool(scheduler.enable_overlap)
        self.sound = True  # until a step fails
        self._ids = map(str, itertools.count())
        self._index: dict[str, int] = {}
        self._seen: dict[str, int] = {}  # tokens reported so far
        self._inbox: list[Any] = []
        self._batches: deque[Batch] = deque()  # launched and not yet reported, the oldest first
        self._refused: list[str] = []
        self._thrown = 0
        self._dropped: set[str] = set()  # retracted while a batch of theirs was under way: its token is thrown away
        self._spent = dict.fromkeys(("schedule", "execute", "wait", "update"), 0)
        if self.overlap:
            scheduler.enable_skip_finishing_decode = True
            scheduler.result_queue = deque()
            self._sample = ranged(self._ahead, scheduler.launch_batch_sample_if_needed)
        self._launch = ranged(self._ahead, scheduler.run_batch)
        channels = scheduler.ipc_channels
        channels.send_to_detokenizer.send_output = lambda *args, **kwargs: None
        channels.send_to_tokenizer.send_output = lambda output, *args, **kwargs: self._refused.append(str(output))
        queued = scheduler._add_request_to_queue

        def counted(req: Any, is_retracted: bool = False) -> Any:
            self._thrown += is_retracted
            if is_retracted and any(req in batch.reqs for batch, _ in scheduler.result_queue):
                self._dropped.add(req.rid)
            return queued(req, is_retracted=is_retracted)

        scheduler._add_request_to_queue = counted

    def submit(self, request: Request) -> None:
        """Hands a request to the scheduler's next pass.

        Raises:
            ValueError: the KV cache is too small for it; the scheduler would not admit it and say nothing.
        """
        page, held = self._scheduler.page_size, self._scheduler.max_total_num_tokens
        needed = -(-len(request.prompt) // page) * page + request.output_tokens + page + RESERVED_TOKENS
        if needed > held:
            raise ValueError(f"SGLang needs a KV cache of {needed} tokens for request {request.index}, and has {held}")
        name = next(self._ids)
        self._index[name], self._seen[name] = request.index, 0
        sampling = self._make_sampling(max_new_tokens=request.output_tokens, temperature=0.0, ignore_eos=True)
        sampling.normalize(None)
        self._inbox.append(
            self._make_request(
                rid=name,
                input_text=None,
                input_ids=array("q", request.prompt),
                input_embeds=None,
                mm_inputs=None,
                token_type_ids=None,
                sampling_params=sampling,
                return_logprob=False,
                logprob_start_len=-1,
                top_logprobs_num=0,
                token_ids_logprob=None,
                stream=False,
            )
        )

    def step(self) -> StepReport | None:
        spent, scheduler = self._spent, self._scheduler
        self.sound = False
        for phase in spent:
            spent[phase] = 0
        start = time.monotonic_ns()
        done = self._pass()
        while done is None and scheduler.last_batch:  # the pipeline was only filled
            done = self._pass()
        end = time.monotonic_ns()
        if self._refused:
            raise RuntimeError(f"SGLang ended a request: {self._refused[0]}")
        if done is None:
            self.sound = True
            return None
        batch = self._batches.popleft()
        tokens, finished = self._collect(done)
        self.sound = True
        return batch.report(
            start,
            end,
            tokens,
            finished,
            schedule_ns=spent["schedule"],
            execute_ns=spent["execute"],
            wait_ns=spent["wait"] if self.overlap else None,
            update_ns=spent["update"] - spent["wait"],
        )

    def _pass(self) -> Any:
        """One pass of the event loop; the batch whose tokens it took, if any."""
        s, clock = self._scheduler, time.monotonic_ns
        begun = clock()
        if self._inbox:
            s.process_input_requests(self._inbox)
            self._inbox = []
        plan = s.get_next_batch_to_run(running_batch=s.running_batch, last_batch=s.last_batch)
        s.running_batch = plan.running_batch
        s.cur_batch_for_debug = batch = plan.batch_to_run
        if batch:
            self._batches.append(self._make_up(batch))
        self._spent["schedule"] += clock() - begun
        done = self._overlapped(batch) if self.overlap else self._in_order(batch)
        s.last_batch = batch
        return done

    def _in_order(self, batch: Any) -> Any:
        s = self._scheduler
        if not batch:
            s._sched_idled = True
            s.on_idle()
            return None
        self._take(batch, self._timed("execute", self._launch, batch))
        return batch

    def _overlapped(self, batch: Any) -> Any:
        s, done, result = self._scheduler, None, None
        alone = s.is_disable_overlap_for_batch(batch, last_batch=s.last_batch)
        if alone:
            done = self._take(*s.result_queue.popleft())
        if batch:
            result = self._timed("execute", self._launch, batch)
            s._apply_war_barrier()
            s.result_queue.append((batch.copy(), result))
        else:
            s._sched_idled = True
        if s.last_batch:
            if not alone:
                done = self._take(*s.result_queue.popleft())
        elif batch is None:
            s.on_idle()
        self._timed("execute", self._sample, result, batch)
        return done

    def _ahead(self) -> str:
        """For profilers: how many steps after this one the batch comes out that is launched now."""
        return f"ahead {max(len(self._batches) - 1, 0)}"

    def _take(self, batch: Any, result: Any) -> Any:
        if self.overlap and result.copy_done is not None:
            result.copy_done = Waited(result.copy_done, self._spent)
        self._timed("update", self._scheduler.process_batch_result, batch, result)
        return batch

    def _timed(self, phase: str, call: Any, *args: Any) -> Any:
        begun = time.monotonic_ns()
        result = call(*args)
        self._spent[phase] += time.monotonic_ns() - begun
        return result

    def _collect(self, batch: Any) -> tuple[list[tuple[int, list[int]]], list[int]]:
        index, seen, tokens, finished = self._index, self._seen, [], []
        for req in batch.reqs:
            if req.rid not in index:  # ended in an earlier batch, of which this one knew nothing yet
                continue
            new = len(req.output_ids) - seen[req.rid]
            if new:
                tokens.append((index[req.rid], list(req.output_ids[-new:])))
                seen[req.rid] += new
            if req.finished():
                reason = req.finished_reason.to_json()
                if reason["type"] == "abort":
                    raise RuntimeError(f"SGLang ended request {index[req.rid]}: {reason['message']}")
                finished.append(index.pop(req.rid))
                del seen[req.rid]
        return tokens, finished

    def _make_up(self, batch: Any) -> Batch:
        """Counts a batch's positions.

        A prefill batch may hold decoding requests too (enable_mixed_chunk), and requests that come back after a
        retraction, of whose positions the newest token's is decode and the others are prefill; but where the batch
        that computed the newest position was under way at the retraction, that position has been told as decode.
        """
        running = len(batch.reqs)
        prefill, decode = 0, running
        if batch.forward_mode.is_extend():
            decoding = len(batch.decoding_reqs or ())
            fresh = batch.reqs[: running - decoding]
            back = {req.rid for req in fresh if req.output_ids and req is not batch.chunked_req}
            again = len(back - self._dropped)
            self._dropped -= back
            decode = decoding + again
            prefill = batch.extend_num_tokens - decode
        thrown, self._thrown = self._thrown, 0
        usage = self._scheduler.pool_stats_observer.get_pool_stats().get_kv_token_stats()[1]
        return Batch(prefill, decode, running, len(self._scheduler.waiting_queue), thrown, usage)

    def has_work(self) -> bool:
        return bool(self._index or self._batches)
