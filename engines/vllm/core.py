"""vLLM on layer `core`: `EngineCore` stepped in this process, without input processor, detokenizer or process hop."""

from __future__ import annotations

import itertools
import time
from typing import Any

from innerloop.engines.contract import EngineInfo, Load, Request, StepReport
from innerloop.engines.vllm.phases import Watch
from innerloop.engines.vllm.settings import effective, engine_config, engine_info, model_runner


class CoreRung:
    """Steps `EngineCore.step_fn` of an `InprocClient`."""

    cannot_report: tuple[str, ...] = ()

    def load(self, arguments: dict[str, Any], load: Load, version: str) -> EngineInfo:
        from vllm.v1.engine.core_client import InprocClient
        from vllm.v1.executor.abstract import Executor

        config = engine_config(arguments)
        self.attach(InprocClient(config, Executor.get_class(config), log_stats=False))
        return engine_info(version, effective(config), arguments, load, runner=model_runner(self._core))

    def attach(self, client: Any) -> None:
        """Takes charge of the engine core of an `InprocClient`."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.engine import EngineCoreRequest

        self._client, self._core, self._scheduler = client, client.engine_core, client.engine_core.scheduler
        self._make_request, self._make_sampling = EngineCoreRequest, SamplingParams
        self._ids = map(str, itertools.count())
        self._index: dict[str, int] = {}
        self._watch = Watch(self._core)
        self.cannot_report = self._watch.cannot_report

    def submit(self, request: Request) -> None:
        name = next(self._ids)
        self._index[name] = request.index
        self._client.add_request(
            self._make_request(
                request_id=name,
                prompt_token_ids=request.prompt,
                mm_features=None,
                sampling_params=self._make_sampling(
                    temperature=0.0, ignore_eos=True, max_tokens=request.output_tokens, detokenize=False
                ),
                pooling_params=None,
                arrival_time=time.time(),
                lora_request=None,
                cache_salt=None,
                data_parallel_rank=None,
            )
        )

    def step(self, due_ns: int | None = None) -> StepReport | None:
        core = self._core
        start = self._watch.begin()
        while True:
            outputs, executed = core.step_fn()
            core.post_step(model_executed=executed)
            # With a batch queue the first call only fills it, and an empty batch may be left in it from before: the
            # step goes on until a batch comes out.
            if not self._watch.filling:
                break
        end = time.monotonic_ns()
        return self._watch.report(start, end, *self.taken(outputs))

    def taken(self, outputs: Any) -> tuple[list[tuple[int, list[int]]], list[int]]:
        """Who got which token ids in a step's outputs, and who is finished; both by the requests' indices."""
        index, tokens, finished = self._index, [], []
        for group in (outputs or {}).values():
            for output in group.outputs:
                if output.new_token_ids:
                    tokens.append((index[output.request_id], output.new_token_ids))
                if output.finish_reason is not None:
                    finished.append(index.pop(output.request_id))
        return tokens, finished

    def has_work(self) -> bool:
        return self._scheduler.has_requests() or bool(self._core.batch_queue)

    def close(self) -> None:
        client = getattr(self, "_client", None)
        if client is not None:
            client.shutdown()
