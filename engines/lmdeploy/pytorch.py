"""LMDeploy's PyTorch engine: its asyncio loop is run until it has finished an iteration, and then stands still."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.support.waiting import WAIT_S, LoopTimer

CLOSE_S = 10.0
KV_DTYPES = {4: "int4", 8: "int8", 16: "fp8", 17: "fp8_e5m2"}  # QuantPolicy (lmdeploy/messages.py)


class PyTorchSession(Session):
    """A step runs the engine's event loop until `EngineLoop._make_infer_outputs` has an iteration's outputs.

    That is where the engine itself first sees an iteration's tokens; its own consumers would get them up to a
    millisecond later. The next iteration is already under way on the device while the event loop stands still: it was
    chosen before these tokens were known (engine_loop.py, `_main_loop_get_outputs`). So a request that has just ended
    is in it once more, and a burst's last requests are in one that brings nothing; neither is reported. A token that is
    in flight while its request is preempted is dropped (strategies/ar/sequence.py, `update_running`). A preempted
    request keeps its blocks until others take them: it comes back in a prefill of what is missing, at least of its
    newest token.
    Prefill and decode are iterations of their own. A prompt in chunks has iterations without tokens.
    """

    unreported = ("preempted", "schedule_ns", "prepare_ns", "execute_ns", "wait_ns", "sample_ns", "update_ns")
    notes = ("LMDeploy's PyTorch engine runs its own loop; a step lasts from one iteration's tokens to the next's",)

    @classmethod
    def open(cls, checkpoint: str, config: Any, trust_remote_code: bool) -> PyTorchSession:
        from lmdeploy.pytorch.engine import Engine

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)  # the engine asks for the current one
        try:
            engine = Engine.from_pretrained(checkpoint, engine_config=config, trust_remote_code=trust_remote_code)
            try:
                return cls(engine, loop)
            except BaseException:
                end(engine, loop)
                raise
        except BaseException:
            loop.close()
            raise

    def __init__(self, engine: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Takes charge of an `Engine` and starts its loop, which releases the engine when it ends."""
        from lmdeploy.messages import GenerationConfig
        from lmdeploy.pytorch.engine.request import RequestType
        from lmdeploy.pytorch.messages import MessageStatus, SamplingParam

        self._make_generation, self._make_sampling, self._types = GenerationConfig, SamplingParam, RequestType
        self._goes_on = MessageStatus.RUNNING
        self._engine, self._loop = engine, loop
        self._sender = engine.req_manager.build_sender()
        self._open: dict[int, int] = {}  # request -> tokens reported
        self._cached: dict[int, int] = {}  # request -> prompt positions found in the cache; 0 once that is reported
        self._reports: deque[StepReport] = deque()
        self._since = 0
        self._closing = False
        self._timer = LoopTimer(loop, loop.stop)
        self._watch_cache()
        loop.run_until_complete(self._start())

    def _watch_cache(self) -> None:
        """Notes what a request's prompt finds in the prefix cache when it is first admitted."""
        trie = self._engine.scheduler.block_trie
        finalize = trie.finalize_match

        def finalize_match(sequence: Any) -> None:
            finalize(sequence)
            self._cached.setdefault(sequence.session_id, sequence.cached_tokens)

        trie.finalize_match = finalize_match

    async def _start(self) -> None:
        self._engine.start_loop()
        self._main = self._engine.req_manager._loop_task
        while self._engine._engine_loop is None and not self._main.done():
            await asyncio.sleep(0)
        if self._main.done():
            self._main.result()
        loop = self._engine._engine_loop
        make = loop._make_infer_outputs

        def observed(batched_outputs: Any, running: Any, model_inputs: Any, delta: Any) -> Any:
            alive = [sequence for sequence in running if sequence.status == self._goes_on]
            prefill, decode = count_positions(alive, model_inputs)
            outputs = make(batched_outputs, running=running, model_inputs=model_inputs, delta=delta)
            if (alive or prefill) and not self._closing:
                if model_inputs is None:
                    self._report(outputs, (prefill, decode, 0), len(alive))
                else:
                    self._report(outputs, (prefill, decode, self._newly_cached(running)), len(running))
            return outputs

        loop._make_infer_outputs = observed
        self._main.add_done_callback(self._ended)

    def _ended(self, task: Any) -> None:
        self._loop.stop()

    def prepare(self, request: Request) -> list[dict[str, Any]]:
        """The data of the two messages that begin a request: a session of its own, and its prompt."""
        settings = self._make_generation(
            max_new_tokens=request.output_tokens, ignore_eos=True, top_k=1, top_p=1.0, temperature=1.0
        )
        message = {
            "token_ids": request.prompt,
            "session_id": request.id,
            "sampling_param": self._make_sampling.from_gen_config(gen_config=settings),
            "adapter_name": None,
        }
        return [{"session_id": request.id, "response": False}, message]

    def submit(self, prepared: list[dict[str, Any]]) -> None:
        if not self._open:
            self._since = time.monotonic_ns()
        self._open[prepared[0]["session_id"]] = 0
        self._sender.batched_send_async([self._types.ADD_SESSION, self._types.ADD_MESSAGE], prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if not self._reports:
            look_ns = time.monotonic_ns() + round(WAIT_S * 1e9)
            self._timer.arm(look_ns if until_ns is None else min(until_ns, look_ns))
            self._loop.run_forever()  # until `_report`, the timer or the engine's end stops it
            self._timer.arm(None)
        if self._reports:
            return self._reports.popleft()
        if self._main.done():
            self._main.result()
            raise RuntimeError("LMDeploy's engine loop has ended")
        return Nothing.TIMED_OUT

    def has_work(self) -> bool:
        return bool(self._open or self._reports)

    def close(self) -> None:
        self._closing = True  # a report would stop the loop that the engine ends in
        self._main.remove_done_callback(self._ended)
        self._timer.close()
        end(self._engine, self._loop)
        self._loop.close()

    def effective(self) -> dict[str, Any]:
        engine = self._engine
        model, cache, config = engine.model_config, engine.cache_config, engine.engine_config
        dtype = str(model.dtype).removeprefix("torch.")
        policy = int(config.quant_policy)
        return {
            "dtype": dtype,
            "quantization": getattr(model.quant_config, "quant_method", None),
            "tensor_parallel": config.tp,
            "context_length": engine.max_session_len,
            "max_batch_size": engine.scheduler_config.max_batches,
            "max_tokens_per_step": cache.max_prefill_token_num,
            "kv_cache_tokens": (cache.num_gpu_blocks - cache.num_reserved_gpu_blocks) * cache.block_size,
            "kv_cache_dtype": KV_DTYPES.get(policy, f"quant_policy {policy}") if policy else dtype,
            "kv_block_tokens": cache.block_size,
            "prefix_caching": cache.enable_prefix_caching,
            "chunked_prefill": True,
            "cuda_graphs": not engine.backend_config.eager_mode,
            "async_scheduling": True,
            "attention_backend": "lmdeploy.pytorch",
        }

    def _newly_cached(self, batch: Any) -> int:
        """What those requests of a prefill found in the cache that have not been in a batch before."""
        found = 0
        for sequence in batch:
            if hit := self._cached.get(sequence.session_id):
                found += hit
                self._cached[sequence.session_id] = 0
        return found

    def _report(self, outputs: dict[int, Any], positions: tuple[int, int, int], running: int) -> None:
        """Reports an iteration; `positions` are those prefilled, decoded and taken from the cache."""
        now = time.monotonic_ns()
        prefill, decode, cached = positions
        tokens, finished = [], []
        for request, output in outputs.items():
            ids = output.token_ids[self._open[request] :].tolist()
            if ids:
                tokens.append((request, ids))
                self._open[request] += len(ids)
            if output.finish:
                finished.append(request)
                del self._open[request]
                self._cached.pop(request, None)
                self._sender.send_async(self._types.END_SESSION, {"session_id": request, "response": False})
        metrics = self._engine.get_schedule_metrics()
        self._reports.append(
            StepReport(
                start_ns=min(self._since, now),
                end_ns=now,
                tokens=tokens,
                finished=finished,
                prefill_tokens=prefill,
                decode_tokens=decode,
                cached_tokens=cached,
                drafted_tokens=0,
                accepted_tokens=0,
                running=running,
                waiting=metrics.waiting_seqs,
                kv_usage=metrics.cache_usage,
                observer_ns=time.monotonic_ns() - now,
            )
        )
        self._since = now
        self._loop.stop()


def end(engine: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Closes the engine, which releases its device when its loop ends."""
    engine.close()  # only asks its loop to end
    ended = loop.create_task(engine.req_manager.wait_tasks())  # its loop, and the one that slows senders down
    loop.run_until_complete(asyncio.wait([ended], timeout=CLOSE_S))
    if ended.done() and not ended.cancelled():
        ended.exception()  # has been told, or nobody asks any more


def count_positions(alive: Any, model_inputs: Any) -> tuple[int, int]:
    """(prefill, decode) positions of an iteration, before its outputs change its sequences.

    `alive` are those of its sequences that get a token. `model_inputs` is there for a prefill only. A request that
    comes back after its cache was taken away is prefilled with all that it had; the newest of its tokens counts as
    decode.
    """
    if model_inputs is None or model_inputs.is_decoding:
        return 0, len(alive)
    positions = int(model_inputs.input_ids.numel())
    if model_inputs.is_chunk and not model_inputs.is_last_chunk:
        return positions, 0
    recomputed = sum(1 for sequence in alive if sequence.num_new_tokens)
    return positions - recomputed, recomputed
