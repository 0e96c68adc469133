"""vLLM's rungs core and engine on a double of its engine core, for what a CPU cannot show: asynchronous scheduling.

The double follows vLLM 0.32's `EngineCore.step_with_batch_queue` and `Scheduler`: a call schedules the next batch and
returns the tokens of an earlier one, and a request's state is advanced when it is scheduled, not when its token comes.
"""

from __future__ import annotations

import sys
import time
import types
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.contract import Nothing, Request
from innerloop.engines.support import marks
from innerloop.engines.vllm import adapter as vllm_adapter
from innerloop.engines.vllm.core import CoreSession
from innerloop.engines.vllm.engine import EngineSession
from innerloop.engines.vllm.phases import StepProbe
from tests.engines.support.loads import make_load


@dataclass
class CoreRequest:
    request_id: str
    prompt_token_ids: list[int]
    sampling_params: Any
    num_computed_tokens: int = 0
    num_output_tokens: int = 0
    num_output_placeholders: int = 0
    is_prefill_chunk: bool = False

    @property
    def known(self) -> int:
        return len(self.prompt_token_ids) + self.num_output_tokens + self.num_output_placeholders


@dataclass
class SchedulerOutput:
    num_scheduled_tokens: dict[str, int]
    scheduled_new_reqs: list[Any]
    preempted_req_ids: set[str] | None = None
    finished_req_ids: set[str] = field(default_factory=set)
    total_num_scheduled_tokens: int = 0
    scheduled_spec_decode_tokens: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.total_num_scheduled_tokens = sum(self.num_scheduled_tokens.values())


@dataclass
class Scheduler:
    budget: int = 8
    requests: dict[str, CoreRequest] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    preempt_next: set[str] = field(default_factory=set)

    def has_requests(self) -> bool:
        return bool(self.requests or self.finished)

    def get_request_counts(self) -> tuple[int, int]:
        return len(self.started), len(self.requests) - len(self.started)

    @property
    def kv_cache_manager(self) -> Any:
        return SimpleNamespace(usage=0.5)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        thrown, self.preempt_next = self.preempt_next, set()
        for name in thrown:
            self.requests[name].num_computed_tokens = self.requests[name].num_output_placeholders = 0
        budget, scheduled, new = self.budget, {}, []
        for name, request in self.requests.items():
            generated = request.num_output_tokens + request.num_output_placeholders
            wanted = request.known - request.num_computed_tokens
            if name in thrown or generated >= request.sampling_params.max_tokens:
                continue
            count = min(wanted, budget)
            if count <= 0:
                continue
            budget -= count
            scheduled[name] = count
            if name not in self.started:
                self.started.add(name)
                new.append(SimpleNamespace(req_id=name, num_computed_tokens=request.num_computed_tokens))
            request.num_computed_tokens += count
            request.is_prefill_chunk = request.num_computed_tokens < request.known
            if not request.is_prefill_chunk:
                request.num_output_placeholders += 1
        if not scheduled:
            self.finished.clear()
        return SchedulerOutput(scheduled, new, thrown or None)

    def update_from_output(self, output: SchedulerOutput, sampled: set[str]) -> dict[int, Any]:
        outputs = []
        for name in output.num_scheduled_tokens:
            if name in sampled:
                request = self.requests[name]
                request.num_output_tokens += 1
                request.num_output_placeholders = max(request.num_output_placeholders - 1, 0)
                done = request.num_output_tokens == request.sampling_params.max_tokens
                outputs.append(
                    SimpleNamespace(request_id=name, new_token_ids=[7], finish_reason="length" if done else None)
                )
                if done:
                    del self.requests[name]
                    self.started.discard(name)
                    self.finished.add(name)
        return {0: SimpleNamespace(outputs=outputs)} if outputs else {}


class Future:
    """A result that is not there until it is waited for."""

    def __init__(self, value: Any) -> None:
        self._value, self._done = value, False

    def done(self) -> bool:
        return self._done

    def result(self) -> Any:
        self._done = True
        return self._value


class Runner:
    """A V1 model runner: `_preprocess` is the last call before the forward pass."""

    def __init__(self, prepare_s: float = 0.0) -> None:
        self.prepare_s, self.forward_s = prepare_s, 0.003

    def execute_model(self, output: SchedulerOutput) -> None:
        self._update_states()
        self._preprocess()
        time.sleep(self.forward_s)

    def _update_states(self) -> None:
        time.sleep(self.prepare_s / 2)

    def _preprocess(self) -> None:
        time.sleep(self.prepare_s / 2)


class RunnerV2:
    """A V2 model runner: its model state's `prepare_inputs` is the last call before the forward pass."""

    def __init__(self) -> None:
        self.model_state = SimpleNamespace(prepare_inputs=lambda: time.sleep(0.002))
        self.forward_s = 0.003

    def execute_model(self, output: SchedulerOutput) -> None:
        self.model_state.prepare_inputs()
        time.sleep(self.forward_s)


class Executor:
    _sampled: set[str]

    def __init__(self, runner: Any = None) -> None:
        if runner is not None:
            self.driver_worker = SimpleNamespace(worker=SimpleNamespace(model_runner=runner))

    def execute_model(self, output: SchedulerOutput, non_block: bool = False) -> Future:
        if hasattr(self, "driver_worker"):
            self.driver_worker.worker.model_runner.execute_model(output)
        return Future(None)

    def sample_tokens(self, grammar: Any, non_block: bool = False) -> Future:
        return Future(self._sampled)


class AsyncCore:
    """Two batches in flight, as with `async_scheduling` on a GPU."""

    def __init__(self, depth: int = 2, runner: Any = None) -> None:
        self.scheduler, self.model_executor = Scheduler(), Executor(runner)
        self.batch_queue: deque[Any] = deque(maxlen=depth)
        self.depth, self.calls = depth, 0
        self.step_fn = self.step_with_batch_queue

    def preprocess_add_request(self, request: Any) -> tuple[CoreRequest, int]:
        return CoreRequest(request.request_id, request.prompt_token_ids, request.sampling_params), 0

    def add_request(self, request: CoreRequest, wave: int) -> None:
        self.scheduler.requests[request.request_id] = request

    def step_with_batch_queue(self) -> tuple[Any, bool]:
        self.calls += 1
        executed = False
        if self.scheduler.has_requests():
            output = self.scheduler.schedule(False)
            self.model_executor.execute_model(output, non_block=True)
            executed = output.total_num_scheduled_tokens > 0
            names = output.num_scheduled_tokens
            self.model_executor._sampled = {n for n in names if not self.scheduler.requests[n].is_prefill_chunk}
            future = self.model_executor.sample_tokens(None, non_block=True)
            self.batch_queue.appendleft((future, output))
            if len(self.batch_queue) < self.depth and (executed or self.scheduler.has_requests()):
                return None, executed
        elif not self.batch_queue:
            return None, False
        future, output = self.batch_queue.pop()
        return self.scheduler.update_from_output(output, future.result()), executed

    def post_step(self, model_executed: bool) -> None:
        pass


class Client:
    def __init__(self, core: AsyncCore) -> None:
        self.engine_core = core

    def add_request(self, request: Any) -> None:
        self.engine_core.add_request(*self.engine_core.preprocess_add_request(request))

    def shutdown(self) -> None:
        pass


class Engine:
    """As `LLMEngine` of 0.32: `step` gets the core's outputs and turns them into those of requests."""

    def __init__(self, core: AsyncCore) -> None:
        self.engine_core = Client(core)
        self.output_processor = SimpleNamespace(process_outputs=self._process)
        self.prompts: list[Any] = []

    def add_request(self, request_id: str, prompt: Any, params: Any) -> None:
        self.prompts.append(prompt)
        ids = prompt["prompt_token_ids"]
        self.engine_core.add_request(
            SimpleNamespace(request_id=request_id, prompt_token_ids=ids, sampling_params=params)
        )

    def step(self) -> list[Any]:
        core = self.engine_core.engine_core
        outputs, executed = core.step_fn()
        core.post_step(model_executed=executed)
        return self.output_processor.process_outputs(outputs[0].outputs if outputs else [])

    def _process(self, outputs: list[Any]) -> list[Any]:
        time.sleep(0.001)
        return [
            SimpleNamespace(
                request_id=output.request_id,
                outputs=[SimpleNamespace(token_ids=output.new_token_ids)],
                finished=output.finish_reason is not None,
            )
            for output in outputs
        ]


@pytest.fixture
def plain_data(monkeypatch):
    """What the rungs import of vLLM: plain data."""
    names = ("vllm", "vllm.sampling_params", "vllm.inputs", "vllm.inputs.engine", "vllm.v1", "vllm.v1.engine")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    kinds = SimpleNamespace(DELTA="delta")
    monkeypatch.setattr(sys.modules["vllm.sampling_params"], "SamplingParams", SimpleNamespace, raising=False)
    monkeypatch.setattr(sys.modules["vllm.sampling_params"], "RequestOutputKind", kinds, raising=False)
    monkeypatch.setattr(
        sys.modules["vllm.inputs.engine"], "tokens_input", lambda ids: {"prompt_token_ids": ids}, raising=False
    )
    monkeypatch.setattr(sys.modules["vllm.v1.engine"], "EngineCoreRequest", SimpleNamespace, raising=False)


def core_rung(runner: Any = None) -> CoreSession:
    return CoreSession(Client(AsyncCore(runner=runner)))


def engine_rung(runner: Any = None) -> EngineSession:
    return EngineSession(Engine(AsyncCore(runner=runner)))


@pytest.fixture(params=[core_rung, engine_rung], ids=["core", "engine"])
def adapter(plain_data, request):
    """Either rung on the double."""
    return request.param()


def steps(adapter: Any, limit: int = 100) -> list[Any]:
    reports = []
    while adapter.has_work():
        reports.append(adapter.step(None))
        assert len(reports) < limit
    return [report for report in reports if not isinstance(report, Nothing)]


def test_a_report_carries_the_composition_of_the_batch_whose_tokens_it_returns(adapter):
    adapter.submit(adapter.prepare(Request(3, [1] * 6, 3)))
    reports = steps(adapter)
    assert [(r.prefill_tokens, r.decode_tokens, len(r.tokens)) for r in reports] == [(6, 0, 1), (0, 1, 1), (0, 1, 1)]
    assert [index for r in reports for index, _ in r.tokens] == [3, 3, 3]
    assert [list(r.finished) for r in reports] == [[], [], [3]]


def test_the_first_report_spans_the_call_that_only_fills_the_pipeline(adapter):
    adapter.submit(adapter.prepare(Request(0, [1] * 4, 2)))
    first = adapter.step(None)
    assert adapter._core.calls == 2
    assert first.tokens
    assert first.end_ns - first.start_ns >= first.schedule_ns + first.execute_ns + first.sample_ns + first.update_ns


def test_a_launch_after_a_rest_is_part_of_the_step_and_not_of_a_bubble(adapter):
    """The last request leaves an empty batch in the queue, which comes out when the next request is launched."""
    adapter.submit(adapter.prepare(Request(0, [1] * 4, 2)))
    while not any(not isinstance(report, Nothing) and report.finished for report in [adapter.step(None)]):
        pass
    assert adapter._core.batch_queue  # nothing more was asked of it, as by the loop
    adapter.submit(adapter.prepare(Request(1, [1] * 4, 2)))
    first = adapter.step(None)
    assert not isinstance(first, Nothing)
    assert [index for index, _ in first.tokens] == [1]
    assert (first.prefill_tokens, first.decode_tokens) == (4, 0)


def test_a_prompt_in_chunks_is_prefill_until_its_last_position(adapter):
    adapter.submit(adapter.prepare(Request(0, [1] * 20, 2)))  # the budget is 8 positions a step
    reports = steps(adapter)
    assert [(r.prefill_tokens, r.decode_tokens, len(r.tokens)) for r in reports] == [
        (8, 0, 0),
        (8, 0, 0),
        (4, 0, 1),
        (0, 1, 1),
    ]


def test_positions_add_up_over_mixed_batches(adapter):
    lengths = [(5, 4), (11, 3), (2, 6), (17, 1)]
    for index, (prompt, output) in enumerate(lengths):
        adapter.submit(adapter.prepare(Request(index, [1] * prompt, output)))
    reports = steps(adapter)
    assert sum(r.prefill_tokens for r in reports) == sum(prompt for prompt, _ in lengths)
    assert sum(r.decode_tokens for r in reports) == sum(output - 1 for _, output in lengths)
    assert sum(len(ids) for r in reports for _, ids in r.tokens) == sum(output for _, output in lengths)
    assert all(r.running == len(r.tokens) for r in reports if r.prefill_tokens == 0)


def test_what_a_preemption_computes_again_is_prefill(adapter):
    adapter.submit(adapter.prepare(Request(0, [1] * 3, 5)))
    reports = [adapter.step(None) for _ in range(3)]
    known_output = adapter._core.scheduler.requests["0"].num_output_tokens
    adapter._core.scheduler.preempt_next = {"0"}
    while adapter.has_work():
        report = adapter.step(None)
        if not isinstance(report, Nothing):
            reports.append(report)
    again = sum(r.prefill_tokens for r in reports) - 3
    assert sum(r.preempted for r in reports) == 1
    assert again >= 3 + known_output - 1  # the prompt and the output known by then, but for its newest token


def test_a_flush_of_finished_requests_is_no_step(adapter):
    adapter.submit(adapter.prepare(Request(0, [1], 1)))
    assert not isinstance(adapter.step(None), Nothing)
    while adapter.has_work():
        assert isinstance(adapter.step(None), Nothing)


PHASES = ("schedule_ns", "prepare_ns", "execute_ns", "wait_ns", "sample_ns", "update_ns")


@pytest.mark.parametrize("rung", [core_rung, engine_rung])
@pytest.mark.parametrize("runner", [Runner(0.004), RunnerV2()], ids=["V1", "V2"])
def test_input_preparation_is_a_phase_of_its_own_and_not_part_of_execute(plain_data, rung, runner):
    made = rung(runner)
    made.submit(made.prepare(Request(0, [1] * 4, 4)))
    reports = steps(made)
    assert made.unreported == ()
    for report in reports[:2]:  # later calls of the double only drain what is in flight
        assert report.prepare_ns >= 2_000_000  # what the double sleeps
        assert report.execute_ns >= runner.forward_s * 1e9
        assert sum(getattr(report, phase) for phase in PHASES) <= report.end_ns - report.start_ns


def test_where_the_runner_is_not_to_be_seen_preparation_is_unknown_and_said_to_be(plain_data):
    made = core_rung()
    made.submit(made.prepare(Request(0, [1], 2)))
    assert made.unreported == ("prepare_ns",)
    assert {report.prepare_ns for report in steps(made)} == {None}


@pytest.mark.parametrize(
    ("device", "queue", "unseen"), [("cuda", None, ("wait_ns",)), ("cpu", None, ()), ("cuda", deque(), ())]
)
def test_on_a_gpu_the_wait_is_seen_only_with_asynchronous_scheduling(device, queue, unseen):
    core = AsyncCore(runner=Runner())
    core.batch_queue = queue
    core.vllm_config = SimpleNamespace(device_config=SimpleNamespace(device_type=device))  # type: ignore[attr-defined]
    watch = StepProbe(core)
    assert watch.unreported == unseen
    asked = {"async_scheduling": False} if queue is None else {}
    assert vllm_adapter.unreported(make_load(device=device, engine_args=asked)) == unseen


def test_a_runner_of_a_version_that_keeps_its_inputs_elsewhere_is_left_alone(plain_data):
    runner = SimpleNamespace(execute_model=lambda output: None)
    before = runner.execute_model
    made = core_rung(runner)
    assert made.unreported == ("prepare_ns",)
    assert runner.execute_model is before


def test_output_processing_is_part_of_the_engine_layers_update(plain_data):
    made = engine_rung()
    made.submit(made.prepare(Request(0, [1], 3)))
    assert all(report.update_ns >= 1_000_000 for report in steps(made))


def test_the_engine_layer_asks_for_every_token_as_it_comes_and_its_text(plain_data):
    made = engine_rung()
    made.submit(made.prepare(Request(0, [1, 2], 3)))
    params = made._core.scheduler.requests["0"].sampling_params
    assert (params.output_kind, params.max_tokens, params.ignore_eos) == ("delta", 3, True)
    assert not hasattr(params, "detokenize")  # vLLM's own default, which is to do it


def test_marks_that_are_on_range_every_phase(plain_data):
    seen: list[str] = []
    marks.turn_on(seen.append, lambda: None)
    try:
        made = core_rung(Runner())
        made.submit(made.prepare(Request(0, [1], 1)))
        steps(made)
    finally:
        marks.turn_off()
    assert {"schedule", "prepare", "execute", "wait", "sample", "update", "ahead 0"} == set(seen)


def test_a_batch_is_marked_with_how_many_steps_after_its_launch_it_comes_out(plain_data):
    seen: list[str] = []
    marks.turn_on(seen.append, lambda: None)
    try:
        made = core_rung(Runner())
        made.submit(made.prepare(Request(0, [1], 3)))
        by_step: list[list[str]] = []
        while made.has_work() and len(by_step) < 3:
            made.step(None)
            by_step.append([name for name in seen if name.startswith("ahead")])
            seen.clear()
    finally:
        marks.turn_off()
    # Each launch is an execution and a sampling; an empty batch, as the third call's second one, does nothing.
    assert by_step == [["ahead 0"] * 2 + ["ahead 1"] * 2, ["ahead 1"] * 2, ["ahead 0"] * 2]
