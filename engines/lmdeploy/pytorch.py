"""LMDeploy's PyTorch engine: its asyncio loop is run until it has finished an iteration, and then stands still."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import Any, ClassVar

from innerloop.engines.contract import Request, StepReport
from innerloop.engines.support.waiting import seconds_left

CLOSE_S = 10.0


class PyTorchLoop:
    """A step runs the engine's event loop until `EngineLoop._make_infer_outputs` has an iteration's outputs.

    That is where the engine itself first sees an iteration's tokens; its own consumers would get them up to a
    millisecond later. The next iteration is already under way on the device while the event loop stands still: it was
    chosen before these tokens were known (engine_loop.py, `_main_loop_get_outputs`). So a request that has just ended
    is in it once more, and a burst's last requests are in one that brings nothing; neither is reported. A token that is
    in flight while its request loses its cache is dropped (strategies/ar/sequence.py, `update_running`).
    Prefill and decode are iterations of their own. A prompt in chunks has iterations without tokens.
    """

    cannot_report: ClassVar[tuple[str, ...]] = (
        "preempted", "schedule_ns", "prepare_ns", "execute_ns", "wait_ns", "sample_ns", "update_ns",
    )  # fmt: skip
    notes: ClassVar[tuple[str, ...]] = (
        "LMDeploy's PyTorch engine runs its own loop: a step lasts from the last iteration's tokens to this one's",
    )

    def __init__(self, checkpoint: str, config: Any, trust_remote_code: bool) -> None:
        from lmdeploy.messages import GenerationConfig
        from lmdeploy.pytorch.engine import Engine
        from lmdeploy.pytorch.engine.request import RequestType
        from lmdeploy.pytorch.messages import MessageStatus, SamplingParam

        self._make_generation, self._make_sampling, self._types = GenerationConfig, SamplingParam, RequestType
        self._goes_on = MessageStatus.RUNNING
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)  # the engine asks for the current one
        self._engine = Engine.from_pretrained(checkpoint, engine_config=config, trust_remote_code=trust_remote_code)
        self._sender = self._engine.req_manager.build_sender()
        self._sessions = itertools.count(1)
        self._index: dict[int, int] = {}  # by session, while the request runs
        self._reported: dict[int, int] = {}
        self._reports: deque[StepReport] = deque()
        self._since = 0
        self._closing = False
        self._loop.run_until_complete(self._start())

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
            prefill, decode = make_up(alive, model_inputs)
            outputs = make(batched_outputs, running=running, model_inputs=model_inputs, delta=delta)
            if (alive or prefill) and not self._closing:
                self._report(outputs, prefill, decode, len(alive if model_inputs is None else running))
            return outputs

        loop._make_infer_outputs = observed
        self._main.add_done_callback(self._ended)

    def _ended(self, task: Any) -> None:
        self._loop.stop()

    def submit(self, request: Request) -> None:
        session = next(self._sessions)
        settings = self._make_generation(
            max_new_tokens=request.output_tokens, ignore_eos=True, top_k=1, top_p=1.0, temperature=1.0
        )
        if not self._index:
            self._since = time.monotonic_ns()
        self._index[session], self._reported[session] = request.index, 0
        message = {
            "token_ids": request.prompt,
            "session_id": session,
            "sampling_param": self._make_sampling.from_gen_config(gen_config=settings),
            "adapter_name": None,
        }
        self._sender.batched_send_async(
            [self._types.ADD_SESSION, self._types.ADD_MESSAGE], [{"session_id": session, "response": False}, message]
        )

    def step(self, due_ns: int | None = None) -> StepReport | None:
        if not self._reports:
            timer = self._loop.call_later(seconds_left(due_ns), self._loop.stop)
            self._loop.run_forever()  # until `_report`, the timer or the engine's end stops it
            timer.cancel()
        if self._reports:
            return self._reports.popleft()
        if self._main.done():
            self._main.result()
            raise RuntimeError("LMDeploy's engine loop has ended")
        return None

    def has_work(self) -> bool:
        return bool(self._index or self._reports)

    def close(self) -> None:
        self._closing = True  # a report would stop the loop that the engine ends in
        self._main.remove_done_callback(self._ended)
        self._engine.close()  # only asks its loop to end
        if not self._main.done():
            self._loop.run_until_complete(asyncio.wait([self._main], timeout=CLOSE_S))

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
            "kv_cache_dtype": dtype if not policy else f"quant_policy {policy}",
            "kv_block_tokens": cache.block_size,
            "prefix_caching": cache.enable_prefix_caching,
            "chunked_prefill": True,
            "cuda_graphs": not engine.backend_config.eager_mode,
            "async_scheduling": True,
            "attention_backend": "lmdeploy.pytorch",
        }

    def _report(self, outputs: dict[int, Any], prefill: int, decode: int, running: int) -> None:
        now = time.monotonic_ns()
        tokens, finished = [], []
        for session, output in outputs.items():
            ids = output.token_ids[self._reported[session] :].tolist()
            if ids:
                tokens.append((self._index[session], ids))
                self._reported[session] += len(ids)
            if output.finish:
                finished.append(self._index.pop(session))
                del self._reported[session]
                self._sender.send_async(self._types.END_SESSION, {"session_id": session, "response": False})
        metrics = self._engine.get_schedule_metrics()
        self._reports.append(
            StepReport(
                start_ns=min(self._since, now),
                end_ns=now,
                tokens=tokens,
                finished=finished,
                prefill_tokens=prefill,
                decode_tokens=decode,
                running=running,
                waiting=metrics.waiting_seqs,
                kv_usage=metrics.cache_usage,
            )
        )
        self._since = now
        self._loop.stop()


def make_up(alive: Any, model_inputs: Any) -> tuple[int, int]:
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
    again = sum(1 for sequence in alive if sequence.num_new_tokens)
    return positions - again, again
