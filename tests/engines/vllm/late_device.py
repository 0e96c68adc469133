"""Run by vLLM's own interpreter: its real engine core under asynchronous scheduling, on a device that is played.

Only the worker is a double: its batches queue up as on a GPU, and their results come late. Windows are driven through
the adapter's rungs; their traces go into a folder, and what the device saw of them is printed as one JSON document.

`python -m tests.engines.vllm.late_device CHECKPOINT FOLDER V1|V2`
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from vllm.config import VllmConfig
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.core_client import InprocClient
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, AsyncModelRunnerOutput, ModelRunnerOutput
from vllm.v1.worker.worker_base import CompilationTimes

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.vllm.core import CoreSession
from innerloop.engines.vllm.engine import EngineSession
from innerloop.engines.vllm.settings import engine_config
from innerloop.engines.worker import loop
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.work import Work
from tests.engines.support.driving import work
from tests.waiting import Clock

BATCH_S = 0.002  # what the device takes for a batch, from when its tokens are asked for
PREPARE_S = 0.0002
BLOCK_TOKENS = 16
KV_BLOCKS = 40  # far fewer than the window `preempting` would need, enough for every other

# ---------------------------------------------------------------- the device


class LateOutput(AsyncModelRunnerOutput):
    """A batch's tokens, for which the host always has to wait: however slow it is, the device is slower."""

    def __init__(self, output: ModelRunnerOutput) -> None:
        self._output = output

    def get_output(self) -> ModelRunnerOutput:
        time.sleep(BATCH_S)
        return self._output


@dataclass
class OnDevice:
    """A request as the device knows it: its prompt's tokens, those sampled, and the positions computed so far."""

    prompt: int
    sampled: int = 0
    reached: int = 0


class Runner:
    """A model runner and its device.

    A request's tokens are numbered 1, 2, 3, ... What each batch held is noted from what the scheduler sent, not from
    the scheduler's own state.
    """

    def __init__(self) -> None:
        self.batches: list[dict[str, int]] = []  # the launched ones, without empty ones
        self.preempted = 0
        self._requests: dict[str, OnDevice] = {}

    def prepare(self) -> None:
        raise NotImplementedError

    def execute_model(self, output: Any) -> ModelRunnerOutput | None:
        self.preempted += len(output.preempted_req_ids or ())
        if output.total_num_scheduled_tokens == 0:
            return EMPTY_MODEL_RUNNER_OUTPUT
        self.prepare()
        self._sampled = self._compute(output)
        return None

    def sample_tokens(self, grammar: Any) -> LateOutput:
        names = list(self._sampled)
        output = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: i for i, name in enumerate(names)},
            sampled_token_ids=list(self._sampled.values()),
        )
        return LateOutput(output)

    def _compute(self, output: Any) -> dict[str, list[int]]:
        """Notes a batch's make-up; returns the tokens that each of its requests gets, none before its last chunk."""
        new, cached = output.scheduled_new_reqs, output.scheduled_cached_reqs
        starts = {one.req_id: one.num_computed_tokens for one in new}
        starts |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        for one in new:  # with V2 scheduling also those that were preempted
            self._requests.setdefault(one.req_id, OnDevice(len(one.prompt_token_ids)))
        batch = {"positions": 0, "decode": 0, "again": 0, "tokens": 0, "requests": 0}
        tokens: dict[str, list[int]] = {}
        for name, count in output.num_scheduled_tokens.items():
            request, start = self._requests[name], starts[name]
            end = start + count
            batch["requests"] += 1
            batch["positions"] += count
            batch["again"] += max(min(end, request.reached) - start, 0)
            request.reached = max(end, request.reached)
            tokens[name] = []
            if end == request.prompt + request.sampled:
                batch["decode"] += min(request.sampled, 1)
                request.sampled += 1
                batch["tokens"] += 1
                tokens[name] = [request.sampled]
        self.batches.append(batch)
        return tokens


class RunnerV1(Runner):
    """Its preparation ends with `_preprocess` (gpu_model_runner.py)."""

    def prepare(self) -> None:
        self._preprocess()

    def _preprocess(self) -> None:
        time.sleep(PREPARE_S)


class RunnerV2(Runner):
    """Its preparation ends with the model state's `prepare_inputs` (gpu/model_runner.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.model_state = SimpleNamespace(prepare_inputs=lambda: time.sleep(PREPARE_S))

    def prepare(self) -> None:
        self.model_state.prepare_inputs()


class Worker:
    """What an executor asks of its worker."""

    def __init__(self, config: VllmConfig) -> None:
        self.model_runner = RunnerV2() if config.use_v2_model_runner else RunnerV1()
        self.closed = False

    def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    def get_kv_cache_spec(self) -> dict[str, FullAttentionSpec]:
        spec = FullAttentionSpec(block_size=BLOCK_TOKENS, num_kv_heads=4, head_size=64, dtype=torch.float32)
        return {"layer": spec}

    def get_supported_kv_cache_layouts(self) -> list[str]:
        return ["LBNHC"]

    def set_kv_cache_layout(self, name: str) -> None:
        pass

    def determine_available_memory(self) -> int:
        return 2**30

    def initialize_from_config(self, configs: list[Any]) -> None:
        pass

    def compile_or_warm_up_model(self) -> CompilationTimes:
        return CompilationTimes(0.0, 0.0)

    def reset_mm_cache(self) -> None:
        pass

    def execute_model(self, output: Any) -> ModelRunnerOutput | None:
        return self.model_runner.execute_model(output)

    def sample_tokens(self, grammar: Any) -> LateOutput:
        return self.model_runner.sample_tokens(grammar)

    def shutdown(self) -> None:
        self.closed = True


class LateExecutor(UniProcExecutor):
    """vLLM's executor for one device in the engine's own process, with the double as its worker."""

    def _init_executor(self) -> None:
        self.driver_worker = Worker(self.vllm_config)


# ---------------------------------------------------------------- the engine


class LateEngine(Session):
    """A session as an adapter has it; `silent` counts its steps that brought nothing out, `clock` goes on by BATCH_S a
    step."""

    layers = ("core", "engine")

    def __init__(self, layer: str, config: VllmConfig) -> None:
        self.silent = self.first_id = 0
        self.clock = Clock()
        self.session: CoreSession | EngineSession
        if layer == "core":
            client = InprocClient(config, LateExecutor, log_stats=False)
            self.core, self.session = client.engine_core, CoreSession(client)
        else:
            engine = LLMEngine(config, LateExecutor, log_stats=False, usage_context=UsageContext.LLM_CLASS)
            self.core, self.session = engine.engine_core.engine_core, EngineSession(engine)
        self.worker: Worker = self.core.model_executor.driver_worker

    def prepare(self, request: Request) -> Any:
        return self.session.prepare(request)

    def submit(self, prepared: Any) -> None:
        self.session.submit(prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        report = self.session.step(until_ns)
        self.clock.sleep(BATCH_S)
        self.silent += isinstance(report, Nothing)
        return report

    def has_work(self) -> bool:
        return self.session.has_work()

    def close(self) -> None:
        self.session.close()

    def left(self) -> dict[str, Any]:
        """What is left in the engine: batches in the core's queue, those that the probe knows of, and any work."""
        batches = list(self.session._probe._batches.values())
        return {
            "queued": len(self.core.batch_queue),
            "watched": len(batches),
            "computing": sum(batch.positions > 0 for batch in batches),
            "has_work": self.has_work(),
        }


def configuration(layer: str, checkpoint: str) -> VllmConfig:
    """As on a GPU, asynchronous: the CPU's platform turns that off when it makes the configuration."""
    config = engine_config(
        {
            "model": checkpoint,
            "skip_tokenizer_init": layer == "core",
            "dtype": "float32",
            "max_model_len": 512,
            "max_num_seqs": 8,
            "max_num_batched_tokens": 64,
            "block_size": BLOCK_TOKENS,
            "num_gpu_blocks_override": KV_BLOCKS,
            "enable_prefix_caching": False,
            "enforce_eager": True,
            "disable_log_stats": True,
        }
    )
    config.scheduler_config.async_scheduling = True
    return config


# ---------------------------------------------------------------- the windows


@dataclass(frozen=True)
class Window:
    name: str
    work: Work
    then_drained: bool = False  # stepped until nothing is left, as after a warm-up


def windows() -> Iterator[Window]:
    """In the order in which one engine gets them."""
    lengths = random.Random(1)
    burst = [(20, output) for output in (5, 1, 2, 9, 3, 7)]
    yield Window("burst", work(burst), then_drained=True)
    yield Window("burst after a drain", work(burst))
    yield Window("burst after a rest", work(burst))

    mixed = [(lengths.randint(3, 90), lengths.randint(1, 12)) for _ in range(24)]
    gaps = np.random.default_rng(2).exponential(10e6, len(mixed))
    gaps[[8, 16]] = 80e6  # longer than what is running then takes
    yield Window("Poisson with idle gaps", work(mixed, np.cumsum(gaps).astype(np.int64).tolist()))

    users, asked = 4, [(lengths.randint(3, 150), lengths.randint(1, 20)) for _ in range(16)]
    followers = [i + users if i + users < len(asked) else -1 for i in range(len(asked))]
    closed = work(asked, [0] * users + [-1] * (len(asked) - users))
    yield Window("closed loop", replace(closed, next_request=np.array(followers, dtype=np.int32)))

    yield Window("preempting", work([(60, 90)] * 8), then_drained=True)
    yield Window("cut by duration", work([(20, 120)] * 4, duration_ns=100_000_000))


def run(engine: LateEngine, window: Window, folder: Path) -> dict[str, Any]:
    """Drives a window, its trace going into `folder`; what the device saw of it and what is left after it."""
    runner = engine.worker.model_runner
    runner.batches, preempted_before, silent_before = [], runner.preempted, engine.silent
    first_id, engine.first_id = engine.first_id, engine.first_id + len(window.work.output_lens)
    recorder = window.work.recorder(folder, keep_ids=True, first_id=first_id)
    counted = window.work.duration_ns >= 0  # ends after so many steps, however long they take
    try:
        with patch.object(loop, "time", engine.clock) if counted else nullcontext():
            drive(engine, window.work, recorder, first_id)
    finally:
        recorder.close()
    seen = {
        "batches": runner.batches,
        "preempted": runner.preempted - preempted_before,
        "silent_steps": engine.silent - silent_before,
        "left": engine.left(),
    }
    if window.then_drained:
        while engine.has_work():
            engine.step(None)
        seen["left_when_drained"] = engine.left()
    return seen


def run_layer(layer: str, config: VllmConfig, folder: Path) -> dict[str, Any]:
    engine = LateEngine(layer, config)
    scheduler = engine.core.scheduler
    found = {
        "scheduler": type(scheduler).__name__,
        "step": engine.core.step_fn.__name__,
        "v2": scheduler.use_v2_model_runner,
        "cannot_report": engine.session.unreported,
        "windows": {window.name: run(engine, window, folder / window.name) for window in windows()},
    }
    engine.close()
    return {**found, "closed": engine.worker.closed}


def main(checkpoint: str, folder: str, generation: str) -> None:
    layers = {}
    for layer in LateEngine.layers:
        config = configuration(layer, checkpoint)
        # Asked for before, V2 scheduling is refused where there is no Triton (config/vllm.py).
        with patch.object(VllmConfig, "use_v2_model_runner", generation == "V2"):
            layers[layer] = run_layer(layer, config, Path(folder) / layer)
    print("\n" + json.dumps(layers))


if __name__ == "__main__":
    main(*sys.argv[1:])
