"""OpenVINO GenAI's ContinuousBatchingPipeline, stepped in this process on token ids."""

from __future__ import annotations

import gc
import sys
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.openvino.scheduling import FollowedScheduler, Scheduled, blocks_for
from innerloop.engines.support.marks import ranged


class Limits(NamedTuple):
    """What a request has to fit into. `whole_prompt`: positions of a prompt, which is computed in one step; None where
    prompts are split. `blocks`: of the KV cache; None where it grows as needed."""

    context_length: int
    whole_prompt: int | None
    blocks: int | None


class Prepared(NamedTuple):
    """The arguments of `add_request`, and the prompt's length."""

    id: int
    ids: Any
    config: Any
    prompt_tokens: int


class PipelineSession(Session):
    """Steps the pipeline. `most` requests are in it at a time, the others wait here: with dynamic_split_fuse it would
    run them all at once, whatever max_num_seqs says.

    `followed` works out the positions of each step; None with a prefix cache, whose matches are not told. Should it
    ever differ from what the engine tells, no positions are reported from then on.
    """

    def __init__(self, pipeline: Any, limits: Limits, most: int | None, followed: FollowedScheduler | None) -> None:
        import openvino
        import openvino_genai

        self._pipeline, self._limits, self._most, self._followed = pipeline, limits, most, followed
        self._make_tensor, self._make_config = openvino.Tensor, openvino_genai.GenerationConfig
        self._finished_status = openvino_genai.GenerationStatus.FINISHED
        self._caches_prefixes = followed is None
        self._run_step: Any = ranged("execute", pipeline.step)
        self._open: dict[int, Any] = {}  # request -> its handle, of those in the pipeline
        self._held: deque[Prepared] = deque()
        self._producing: set[int] = set()  # requests that have output

    def prepare(self, request: Request) -> Prepared:
        """
        Raises:
            ValueError: it would never be scheduled, which the engine tells in a status alone.
        """
        prompt, longest, whole, blocks = len(request.prompt), *self._limits
        if prompt + request.output_tokens > longest:
            raise ValueError(f"request {request.id} is longer than context_length {longest}")
        if whole is not None and prompt > whole:
            raise ValueError(f"request {request.id}: its prompt is longer than max_tokens_per_step {whole}")
        if blocks is not None and blocks_for(prompt + request.output_tokens - 1) > blocks:
            raise ValueError(f"request {request.id} does not fit into the KV cache, which has {blocks} blocks")
        config = self._make_config()
        config.max_new_tokens, config.ignore_eos, config.do_sample = request.output_tokens, True, False
        return Prepared(request.id, self._make_tensor(np.array([request.prompt], dtype=np.int64)), config, prompt)

    def submit(self, prepared: Prepared) -> None:
        self._held.append(prepared)
        self._hand_over()

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if not self._open:
            return Nothing.FLUSHED
        start = time.monotonic_ns()
        self._run_step()
        end = time.monotonic_ns()
        told = self._pipeline.get_metrics()
        if not told.scheduled_requests:
            raise RuntimeError(
                f"OpenVINO GenAI dropped its {len(self._open)} requests (GenerationStatus.IGNORED): none could "
                "continue in the KV cache; raise kv_cache_tokens"
            )
        tokens, finished = self._collect()
        scheduled = self._follow(told, tokens)
        decode = sum(request in self._producing for request, _ in tokens)  # a request's newest token is one position
        self._producing.update(request for request, _ in tokens)
        self._producing.difference_update(finished)
        for request in finished:
            del self._open[request]
            if self._followed is not None:
                self._followed.remove(request)
        waiting = told.requests - told.scheduled_requests + len(self._held)
        self._hand_over()
        return StepReport(
            start_ns=start,
            end_ns=end,
            tokens=tokens,
            finished=finished,
            prefill_tokens=None if scheduled is None else scheduled.prefill,
            decode_tokens=decode,
            cached_tokens=None if self._caches_prefixes else 0,
            drafted_tokens=0,
            accepted_tokens=0,
            running=told.scheduled_requests,
            waiting=waiting,
            preempted=None if scheduled is None else scheduled.preempted,
            kv_usage=told.cache_usage / 100,
        )

    def has_work(self) -> bool:
        return bool(self._open)

    def reset_caches(self) -> bool:
        """The pipeline has no way to empty a prefix cache."""
        return not self._caches_prefixes

    def close(self) -> None:
        """Cancels what runs: one more step then frees its blocks and computes nothing."""
        pipeline, self._pipeline, self._run_step = self._pipeline, None, None
        self._held.clear()
        for handle in self._open.values():
            handle.cancel()
        if self._open:
            pipeline.step()
        self._open.clear()
        del pipeline
        gc.collect()  # it ends with its last reference

    def _hand_over(self) -> None:
        """Adds waiting requests to the pipeline, which takes them into its next step."""
        while self._held and (self._most is None or len(self._open) < self._most):
            one = self._held.popleft()
            self._open[one.id] = self._pipeline.add_request(one.id, one.ids, one.config)
            if self._followed is not None:
                self._followed.add(one.id, one.prompt_tokens)

    def _collect(self) -> tuple[list[tuple[int, list[int]]], list[int]]:
        """Who got which tokens, and who is finished."""
        tokens, finished = [], []
        for request, handle in self._open.items():
            if handle.can_read():
                [output] = handle.read().values()
                tokens.append((request, output.generated_ids))
                if handle.get_status() == self._finished_status:
                    finished.append(request)
        return tokens, finished

    def _follow(self, told: Any, tokens: list[tuple[int, list[int]]]) -> Scheduled | None:
        """The step as it was worked out, where the engine tells the same of it."""
        if self._followed is None:
            return None
        scheduled, blocks = self._followed.step(), self._limits.blocks
        same = scheduled.running == told.scheduled_requests and scheduled.with_token == {one for one, _ in tokens}
        if same and (blocks is None or scheduled.used_blocks == round(told.cache_usage * blocks / 100)):
            return scheduled
        self._followed = None
        print("openvino: a step did not follow the scheduler's rules; positions are not reported from here on",
              file=sys.stderr, flush=True)  # fmt: skip
        return None
