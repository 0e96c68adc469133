"""vLLM on layer `engine`: `LLMEngine` in this process, with its input processing, output processing and detokenizer."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

from innerloop.engines.contract import Bare, Load, Nothing, Request, Session, StepReport
from innerloop.engines.support.wrapping import unwrapped, wrapped
from innerloop.engines.vllm.evictions import Evictions
from innerloop.engines.vllm.phases import StepProbe, wrapped_methods
from innerloop.engines.vllm.settings import effective, engine_config, engine_info, model_runner


class EngineSession(Session):
    """Steps `LLMEngine.step`, whose engine core is in this process too and is watched as on layer `core`.

    Processing a step's outputs is part of the phase `update`; processing a request's input happens between steps.
    """

    unreported: tuple[str, ...] = ()

    @classmethod
    def open(cls, arguments: dict[str, Any], load: Load, version: str) -> EngineSession:
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor.abstract import Executor

        config = engine_config(arguments)
        session = cls(
            LLMEngine(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_stats=False,
                usage_context=UsageContext.LLM_CLASS,
                multiprocess_mode=False,
            )
        )
        info = engine_info(version, effective(config), arguments, load, runner=model_runner(session._core))
        session.info = replace(info, unreported=session.unreported)
        return session

    def __init__(self, engine: Any) -> None:
        """Takes charge of an `LLMEngine` whose core is in this process."""
        self._engine, self._core = engine, engine.engine_core.engine_core
        self._params, self._prompt = streamed_params(), tokens_prompt()
        self._probe = StepProbe(self._core)
        self._evictions = Evictions(self._core.scheduler)
        self.unreported = self._probe.unreported
        processor = engine.output_processor
        processor.process_outputs = self._probe.also_update(processor.process_outputs)

    def prepare(self, request: Request) -> Any:
        """The arguments of `LLMEngine.add_request`, whose input processing is part of this layer."""
        return str(request.id), self._prompt(request.prompt), self._params(request.output_tokens)

    def submit(self, prepared: Any) -> None:
        self._engine.add_request(*prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        probe = self._probe
        start = probe.begin()
        while True:
            outputs = self._engine.step()
            if not probe.filling:  # as on layer core
                break
        end = time.monotonic_ns()
        return probe.report(start, end, *collect(outputs))

    def has_work(self) -> bool:
        return self._core.scheduler.has_requests() or bool(self._core.batch_queue)

    def evicted_blocks(self) -> int | None:
        return self._evictions.count

    def reset_caches(self) -> bool:
        return bool(self._engine.reset_prefix_cache())

    def bare(self) -> Bare | None:
        """As on layer core; processing outputs is wrapped too."""
        if self._core.batch_queue is not None:
            return None
        methods = [*wrapped_methods(self._core), *wrapped(self._engine.output_processor)]
        return Bare(self._engine.step, collect, partial(unwrapped, *methods))

    def close(self) -> None:
        self._engine.engine_core.shutdown()


def collect(outputs: Any) -> tuple[list[tuple[int, list[int]]], list[int]]:
    """Who got which token ids in a step's `RequestOutput`s, and who is finished; both by the requests' ids."""
    tokens, finished = [], []
    for output in outputs:
        ids = output.outputs[0].token_ids
        if ids:
            tokens.append((int(output.request_id), ids))
        if output.finished:
            finished.append(int(output.request_id))
    return tokens, finished


def streamed_params() -> Any:
    """Makes the sampling parameters of a request from its number of tokens: greedy, exact, each token as it comes."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    def params(output_tokens: int) -> Any:
        return SamplingParams(
            temperature=0.0, ignore_eos=True, max_tokens=output_tokens, output_kind=RequestOutputKind.DELTA
        )

    return params


def tokens_prompt() -> Any:
    """Makes the engine input of a prompt of token ids."""
    from vllm.inputs.engine import tokens_input

    return tokens_input
