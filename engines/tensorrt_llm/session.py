"""A loaded TensorRT-LLM: requests go into its executor's queue, and its loop tells of each iteration."""

from __future__ import annotations

import queue
import threading
from typing import Any

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.support.waiting import seconds_left
from innerloop.engines.tensorrt_llm.iterations import Failure, Iteration, StepProbe, hook_thread

AWAKE_S = 0.02


class LoopSession(Session):
    """Waits for the iterations of `PyExecutor`'s loop.

    A step is one pass of its loop, as `iterations` tells of it. With the overlap scheduler (the engine's default) batch
    n is launched while the tokens of batch n-1 are still to come: the report carries the composition of the batch whose
    tokens it returns and the phase times of the pass that returned them.
    """

    def __init__(self, llm: Any) -> None:
        """Takes charge of an `LLM` whose executor is in this process, before any request came."""
        from tensorrt_llm.executor.request import GenerationRequest
        from tensorrt_llm.sampling_params import SamplingParams

        self._llm, self._worker, self._executor = llm, llm._executor, llm._executor.engine
        self._thread = self._executor.worker_thread
        self._make_request, self._make_sampling = GenerationRequest, SamplingParams
        model = self._executor.model_engine
        self._longest = None if model.attn_runtime_features.chunked_prefill else model.max_num_tokens
        self._open: dict[int, int] = {}  # the executor's own number of each unfinished request
        self._iterations: queue.SimpleQueue[Iteration | Failure] = queue.SimpleQueue()
        self._probe = StepProbe(self._executor, self._iterations.put)
        self._unhook = hook_thread(self._thread, self._iterations.put)

    def prepare(self, request: Request) -> Any:
        """The worker's request, under our id."""
        if self._longest is not None and len(request.prompt) > self._longest:  # else its scheduler raises: no more loop
            raise ValueError(
                f"request {request.id}: a prompt of {len(request.prompt)} tokens is longer than a step"
                f" ({self._longest}); TensorRT-LLM splits prompts only with chunked_prefill=true"
            )
        sampling = self._make_sampling(
            max_tokens=request.output_tokens, ignore_eos=True, end_id=-1, pad_id=0, top_k=1, detokenize=False
        )
        asked = self._make_request(prompt_token_ids=request.prompt, sampling_params=sampling, streaming=True)
        asked.set_id(request.id)
        return asked

    def submit(self, prepared: Any) -> None:
        self._probe.enqueued += 1
        self._open[prepared.id] = self._worker._enqueue_request(prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        """Waits for the loop's next iteration, until `until_ns` at most.

        Raises:
            RuntimeError: a request has failed, or the loop has ended; the engine's own words.
        """
        alive = self._thread.is_alive()  # asked first: what the loop tells at its end is there by then
        try:
            item = self._iterations.get(timeout=seconds_left(until_ns))
        except queue.Empty:
            if not alive:
                raise RuntimeError("TensorRT-LLM's executor loop has ended; its log says why") from None
            return Nothing.TIMED_OUT
        if isinstance(item, Failure):
            raise RuntimeError(f"TensorRT-LLM: {item.message}")
        tokens, finished = [], []
        for response in item.responses:
            result = response.result
            result.deserialize()
            ids = result.output_token_ids[0]
            if ids:
                tokens.append((response.client_id, ids))
            if result.is_final:
                finished.append(response.client_id)
                del self._open[response.client_id]
        phases = {f"{phase}_ns": spent for phase, spent in item.spent.items()}
        return item.batch.report(item.start_ns, item.end_ns, tokens, finished, **phases)

    def has_work(self) -> bool:
        return bool(self._open)

    def reset_caches(self) -> bool:
        """Resets the reuse of blocks while the loop is held at its own barrier, as TensorRT-LLM does it."""
        if self._executor.kv_cache_manager is None or not self._thread.is_alive():
            return False
        with self._executor.control_action():
            self._executor.reset_prefix_cache()
        return True

    def close(self) -> None:
        left = list(self._open.values())
        for number in left:  # its loop ends only when its requests have
            self._executor.cancel_request(number)
        ended = threading.Event()
        if left:
            threading.Thread(target=keep_awake, args=(self._executor, left[0], ended), daemon=True).start()
        try:
            self._llm.shutdown()
        finally:
            ended.set()
            self._unhook()


def keep_awake(executor: Any, number: int, ended: threading.Event) -> None:
    """Cancels a request again and again until `ended`, so that a loop that was shut down amid requests comes to an end.

    It sees that it is to end only after it has fetched (`_prepare_and_schedule_batch` of py_executor.py), and once its
    last request has gone it waits there for something to fetch.
    """
    while not ended.wait(AWAKE_S):
        executor.cancel_request(number)
