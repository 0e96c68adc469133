"""vLLM on layer `engine`: `LLMEngine` in this process, with its input processing, output processing and detokenizer."""

from __future__ import annotations

import itertools
import time
from typing import Any

from innerloop.engines.contract import EngineInfo, Load, Request, StepReport
from innerloop.engines.vllm.phases import Watch
from innerloop.engines.vllm.settings import effective, engine_config, engine_info, model_runner


class EngineRung:
    """Steps `LLMEngine.step`, whose engine core is in this process too and is watched as on layer `core`.

    Processing a step's outputs is part of the phase `update`; processing a request's input happens between steps.
    """

    cannot_report: tuple[str, ...] = ()

    def load(self, arguments: dict[str, Any], load: Load, version: str) -> EngineInfo:
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor.abstract import Executor

        config = engine_config(arguments)
        self.attach(
            LLMEngine(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_stats=False,
                usage_context=UsageContext.LLM_CLASS,
                multiprocess_mode=False,
            )
        )
        return engine_info(version, effective(config), arguments, load, runner=model_runner(self._core))

    def attach(self, engine: Any) -> None:
        """Takes charge of an `LLMEngine` whose core is in this process."""
        self._engine, self._core = engine, engine.engine_core.engine_core
        self._params, self._prompt = streamed_params(), tokens_prompt()
        self._ids = map(str, itertools.count())
        self._index: dict[str, int] = {}
        self._watch = Watch(self._core)
        self.cannot_report = self._watch.cannot_report
        processor = engine.output_processor
        processor.process_outputs = self._watch.also_update(processor.process_outputs)

    def submit(self, request: Request) -> None:
        name = next(self._ids)
        self._index[name] = request.index
        self._engine.add_request(name, self._prompt(request.prompt), self._params(request.output_tokens))

    def step(self, due_ns: int | None = None) -> StepReport | None:
        watch = self._watch
        start = watch.begin()
        while True:
            outputs = self._engine.step()
            if not watch.filling:  # as on layer core
                break
        end = time.monotonic_ns()
        index, tokens, finished = self._index, [], []
        for output in outputs:
            ids = output.outputs[0].token_ids
            if ids:
                tokens.append((index[output.request_id], ids))
            if output.finished:
                finished.append(index.pop(output.request_id))
        return watch.report(start, end, tokens, finished)

    def has_work(self) -> bool:
        return self._core.scheduler.has_requests() or bool(self._core.batch_queue)

    def close(self) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None:
            engine.engine_core.shutdown()


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
