"""SGLang on layer `core`: its `Scheduler` stepped in this process, without tokenizer, detokenizer or sockets."""

from __future__ import annotations

import contextlib
import time
from array import array
from typing import Any

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.sglang.passes import Passes

UNREPORTED = ("prepare_ns", "sample_ns")
IN_ORDER_UNREPORTED = (*UNREPORTED, "wait_ns")  # without overlap the tokens are waited for inside other calls
RESERVED_TOKENS = 2  # of its budget the scheduler keeps this much and a page free for each request (schedule_policy.py)


class CoreSession(Session):
    """A step is a pass of the event loop that brings a batch out.

    With overlap that batch was launched one pass before: the report then carries its composition, its tokens, and the
    phase times of the pass itself. Requests stream, so that every pass hands out the tokens that it has.
    """

    def __init__(self, scheduler: Any) -> None:
        """Takes charge of a `Scheduler` that its event loop was set up for."""
        from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
        from sglang.srt.sampling.sampling_params import SamplingParams

        self._make_request, self._make_sampling = TokenizedGenerateReqInput, SamplingParams
        self._scheduler, self._passes = scheduler, Passes(scheduler)
        self._inbox: list[Any] = []
        self._unfinished = 0
        self._sound = True  # until a step fails
        self.overlap = self._passes.overlap
        self.unreported = UNREPORTED if self.overlap else IN_ORDER_UNREPORTED
        self.held = contextlib.ExitStack()  # what else is to be released

    def prepare(self, request: Request) -> Any:
        """The request as SGLang's tokenizer process would send it.

        Raises:
            ValueError: the KV cache is too small for it; the scheduler would not admit it and say nothing.
        """
        page, held = self._scheduler.page_size, self._scheduler.max_total_num_tokens
        needed = -(-len(request.prompt) // page) * page + request.output_tokens + page + RESERVED_TOKENS
        if needed > held:
            raise ValueError(f"SGLang needs a KV cache of {needed} tokens for request {request.id}, but has {held}")
        sampling = self._make_sampling(max_new_tokens=request.output_tokens, temperature=0.0, ignore_eos=True)
        sampling.normalize(None)
        return self._make_request(
            rid=str(request.id),
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
            stream=True,
        )

    def submit(self, prepared: Any) -> None:
        self._inbox.append(prepared)
        self._unfinished += 1

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        passes, phases = self._passes, self._passes.phases
        self._sound = False
        requests, self._inbox = self._inbox, []
        start = phases.begin()
        done = passes.run(requests)
        while done is None and self._scheduler.last_batch:  # the pipeline was only filled
            done = passes.run()
        end = time.monotonic_ns()
        if passes.refused:
            raise RuntimeError(f"SGLang ended a request: {passes.refused[0]}")
        tokens, finished = self._collect()
        self._sound = True
        if done is None:
            return Nothing.FLUSHED
        spent = phases.spent
        return passes.batches.popleft().report(
            start,
            end,
            tokens,
            finished,
            schedule_ns=spent["schedule"],
            execute_ns=spent["execute"],
            wait_ns=spent["wait"] if self.overlap else None,
            update_ns=spent["update"],
        )

    def _collect(self) -> tuple[list[tuple[int, Any]], list[int]]:
        """Who got which token ids in what was streamed, and who is finished; both by the requests' ids."""
        tokens, finished = [], []
        for output in self._passes.streamed:
            for rid, ids, reason in zip(output.rids, output.output_ids, output.finished_reasons, strict=True):
                if ids:
                    tokens.append((int(rid), ids))
                if reason is not None:
                    if reason["type"] == "abort":
                        raise RuntimeError(f"SGLang ended request {rid}: {reason['message']}")
                    finished.append(int(rid))
        self._passes.streamed.clear()
        self._unfinished -= len(finished)
        return tokens, finished

    def has_work(self) -> bool:
        return bool(self._unfinished or self._passes.batches)

    def reset_caches(self) -> bool:
        """Empties the radix cache. The scheduler only does so once a pass has dropped what its last batches hold."""
        if self.has_work():
            return False
        self._passes.run()
        while self._scheduler.last_batch:
            self._passes.run()
        return bool(self._scheduler.flush_cache(empty_cache=False))

    def release(self) -> None:
        """Ends what the scheduler has outside this process; after a failure the device may never answer."""
        if self._sound:
            from sglang.srt.distributed.parallel_state import abort_distributed_environment

            self._scheduler.release_host_resources()
            abort_distributed_environment()

    def close(self) -> None:
        self.held.close()
