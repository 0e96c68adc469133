"""vLLM on layer `async`: `AsyncLLM`, its engine core in a process of its own, under an event loop in this one."""

from __future__ import annotations

import asyncio
import importlib
import time
from dataclasses import replace
from typing import Any

from innerloop.engines.contract import Load, Nothing, Request, Session, StepReport
from innerloop.engines.support.waiting import LoopTimer
from innerloop.engines.vllm.engine import streamed_params, tokens_prompt
from innerloop.engines.vllm.settings import effective, engine_config, engine_info

UNSEEN = (
    "prefill_tokens", "decode_tokens", "cached_tokens", "drafted_tokens", "accepted_tokens", "running", "waiting",
    "preempted", "kv_usage", "schedule_ns", "prepare_ns", "execute_ns", "wait_ns", "sample_ns", "update_ns",
)  # fmt: skip
NOTE = "a step is a group of outputs that left the engine together; the engine's own steps run in another process"


class AsyncSession(Session):
    """One task a request iterates `AsyncLLM.generate`, as its server does; a step is the outputs that came together.

    `VLLM_ENABLE_V1_MULTIPROCESSING=0`, which keeps layers core and engine in one process, does not reach `AsyncLLM`:
    its core is always a process of its own. On a CPU it also keeps the model out of a third one, as on layer core.
    """

    unreported = UNSEEN

    @classmethod
    def open(cls, arguments: dict[str, Any], load: Load, version: str) -> AsyncSession:
        from vllm.v1.engine.async_llm import AsyncLLM

        config = engine_config(arguments)

        async def make() -> Any:
            return AsyncLLM.from_vllm_config(config, disable_log_stats=True)

        loop = event_loop()
        try:
            session = cls(loop.run_until_complete(make()), loop, streamed_params(), tokens_prompt())
        except BaseException:
            loop.close()
            raise
        info = engine_info(version, effective(config), arguments, load, process_hops=1, notes=(NOTE,))
        session.info = replace(info, stepping="observed", unreported=UNSEEN)
        return session

    def __init__(self, engine: Any, loop: asyncio.AbstractEventLoop, params: Any, prompt: Any) -> None:
        """Takes charge of an `AsyncLLM` made under `loop`."""
        self._engine, self._loop, self._params, self._prompt = engine, loop, params, prompt
        self._tasks: set[asyncio.Task[None]] = set()  # kept from being collected; they leave a little after their end
        self._open = 0
        self._tokens: dict[int, list[int]] = {}
        self._finished: list[int] = []
        self._error: BaseException | None = None
        self._begun: int | None = None
        self._woken: asyncio.Future[None] | None = None
        self._timer = LoopTimer(loop, self._wake)

    def prepare(self, request: Request) -> Any:
        """(id, prompt, parameters), as `AsyncLLM.generate` takes them."""
        return request.id, self._prompt(request.prompt), self._params(request.output_tokens)

    def submit(self, prepared: Any) -> None:
        task = self._loop.create_task(self._follow(*prepared))
        self._open += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, request: int, prompt: Any, params: Any) -> None:
        """Puts down each output of one request as it comes."""
        try:
            async for output in self._engine.generate(prompt, params, str(request)):
                if ids := output.outputs[0].token_ids:
                    self._tokens.setdefault(request, []).extend(ids)
                    self._wake()
            self._finished.append(request)
        except Exception as error:
            self._error = self._error or error
        self._open -= 1
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        start = self._begun or time.monotonic_ns()
        if not self._tokens and not self._finished and self._error is None:
            self._wait(until_ns)
        if self._error is not None:
            raise self._error
        if not self._tokens and not self._finished:
            self._begun = start if self._open else None  # this wait is part of the next step
            return Nothing.TIMED_OUT
        self._begun = None
        end = time.monotonic_ns()
        tokens, finished = list(self._tokens.items()), self._finished
        self._tokens, self._finished = {}, []
        return StepReport(start_ns=start, end_ns=end, tokens=tokens, finished=finished)

    def _wait(self, until_ns: int | None) -> None:
        """Returns once something has come, or when `until_ns` has.

        The tasks that are woken by the same batch of outputs run before the loop stops: they were scheduled earlier.
        """
        self._woken = self._loop.create_future()
        self._timer.arm(until_ns)
        self._loop.run_until_complete(self._woken)

    def has_work(self) -> bool:
        return bool(self._open or self._tokens or self._finished)

    def reset_caches(self) -> bool:
        return bool(self._loop.run_until_complete(self._engine.reset_prefix_cache()))

    def close(self) -> None:
        async def end() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._engine.shutdown()

        self._loop.run_until_complete(end())
        self._timer.close()
        self._loop.close()


def event_loop() -> asyncio.AbstractEventLoop:
    """A loop of the kind that vLLM's own server runs on."""
    try:
        return importlib.import_module("uvloop").new_event_loop()
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
