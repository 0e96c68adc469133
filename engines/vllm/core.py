"""vLLM on layer `core`: `EngineCore` stepped in this process, without input processor, detokenizer or process hop."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

from innerloop.engines.contract import Bare, Load, Nothing, Request, Session, StepReport
from innerloop.engines.support.wrapping import unwrapped
from innerloop.engines.vllm.evictions import Evictions
from innerloop.engines.vllm.phases import StepProbe, wrapped_methods
from innerloop.engines.vllm.settings import effective, engine_config, engine_info, model_runner


class CoreSession(Session):
    """Steps `EngineCore.step_fn` of an `InprocClient`."""

    unreported: tuple[str, ...] = ()

    @classmethod
    def open(cls, arguments: dict[str, Any], load: Load, version: str) -> CoreSession:
        from vllm.v1.engine.core_client import InprocClient
        from vllm.v1.executor.abstract import Executor

        config = engine_config(arguments)
        session = cls(InprocClient(config, Executor.get_class(config), log_stats=False), load.log_probabilities)
        info = engine_info(version, effective(config), arguments, load, runner=model_runner(session._core))
        session.info = replace(info, unreported=session.unreported)
        return session

    def __init__(self, client: Any, log_probabilities: bool = False) -> None:
        """Takes charge of the engine core of an `InprocClient`."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.engine import EngineCoreRequest

        self._client, self._core, self._scheduler = client, client.engine_core, client.engine_core.scheduler
        self._make_request, self._make_sampling = EngineCoreRequest, SamplingParams
        self._logprobs = 0 if log_probabilities else None  # 0: of the sampled token alone
        self._probe = StepProbe(self._core)
        self._evictions = Evictions(self._scheduler)
        self.unreported = self._probe.unreported

    def prepare(self, request: Request) -> Any:
        """(vLLM's request, its wave), as vLLM's own input thread makes them while the model runs."""
        return self._core.preprocess_add_request(
            self._make_request(
                request_id=str(request.id),
                prompt_token_ids=request.prompt,
                mm_features=None,
                sampling_params=self._make_sampling(
                    temperature=0.0,
                    ignore_eos=True,
                    max_tokens=request.output_tokens,
                    detokenize=False,
                    logprobs=self._logprobs,
                ),
                pooling_params=None,
                arrival_time=time.time(),
                lora_request=None,
                cache_salt=None,
                data_parallel_rank=None,
            )
        )

    def submit(self, prepared: Any) -> None:
        self._core.add_request(*prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        core = self._core
        start = self._probe.begin()
        while True:
            outputs, executed = core.step_fn()
            core.post_step(model_executed=executed)
            # With a batch queue the first call only fills it, and an empty batch may be left in it from before: the
            # step goes on until a batch comes out.
            if not self._probe.filling:
                break
        end = time.monotonic_ns()
        report = self._probe.report(start, end, *collect(outputs))
        if self._logprobs is not None and not isinstance(report, Nothing):
            report.log_probabilities = log_probabilities(outputs)
        return report

    def has_work(self) -> bool:
        return self._scheduler.has_requests() or bool(self._core.batch_queue)

    def evicted_blocks(self) -> int | None:
        return self._evictions.count

    def reset_caches(self) -> bool:
        return bool(self._core.reset_prefix_cache())

    def bare(self) -> Bare | None:
        """With a batch queue a call's tokens are of an earlier batch, which the probe has to have seen."""
        if self._core.batch_queue is not None:
            return None
        return Bare(self._plain_step, collect, partial(unwrapped, *wrapped_methods(self._core)))

    def _plain_step(self) -> Any:
        outputs, executed = self._core.step_fn()
        self._core.post_step(model_executed=executed)
        return outputs

    def close(self) -> None:
        self._client.shutdown()


def collect(outputs: Any) -> tuple[list[tuple[int, list[int]]], list[int]]:
    """Who got which token ids in a step's outputs, and who is finished; both by the requests' ids."""
    tokens, finished = [], []
    for group in (outputs or {}).values():
        for output in group.outputs:
            if output.new_token_ids:
                tokens.append((int(output.request_id), output.new_token_ids))
            if output.finish_reason is not None:
                finished.append(int(output.request_id))
    return tokens, finished


def log_probabilities(outputs: Any) -> list[list[float]]:
    """Those of the tokens in a step's outputs, in the order of `collect`. The first column of a request's
    `new_logprobs` (v1/outputs.py, LogprobsLists) is the sampled token's, of the model's own logits (`logprobs_mode`
    "raw_logprobs", the default)."""
    found = []
    for group in (outputs or {}).values():
        for output in group.outputs:
            if output.new_token_ids:
                found.append([float(row[0]) for row in output.new_logprobs.logprobs])
    return found
