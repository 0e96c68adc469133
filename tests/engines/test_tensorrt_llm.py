"""TensorRT-LLM's adapter on a double of `PyExecutor`, through the real loop, recorder and analysis.

The double's two loops follow `_executor_loop` and `_executor_loop_overlap` of TensorRT-LLM 1.2: a thread of its own,
a queue, and with overlap the tokens of a batch one pass after its launch. A pass that launches nothing keeps the batch
before it as the previous one, whose tokens it has just given: the next pass handles that batch once more.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import types
from types import SimpleNamespace
from typing import Any

import pytest

from engines.base import UnsupportedSetting, WrongTokenCount
from engines.tensorrt_llm import Adapter, free_share, native_arguments

from .driving import driven, work
from .loads import make_load

BLOCKS = 40


class Result:
    def __init__(self, ids: list[int], is_final: bool) -> None:
        self._serialized, self.is_final = [ids], is_final

    def deserialize(self) -> None:
        self.output_token_ids = self._serialized


class Response:
    def __init__(self, result: Result | None, error_msg: str | None = None) -> None:
        self.result, self.error_msg = result, error_msg

    def has_error(self) -> bool:
        return self.error_msg is not None


class LlmRequest:
    def __init__(self, name: int, asked: Any, cut: int) -> None:
        self.py_request_id, self.orig_prompt_len = name, len(asked.prompt_token_ids)
        self.context = self.orig_prompt_len  # positions to compute before the next token
        self.context_chunk_size, self.is_last_context_chunk = 0, False
        self.launched = self.given = 0  # tokens whose batch was launched, and those handed out
        self.limit = asked.sampling_params.max_tokens - cut

    @property
    def max_beam_num_tokens(self) -> int:
        return self.orig_prompt_len + self.given


class PyExecutor:
    """`budget`: prompt positions a pass; `cut`: tokens by which every output falls short."""

    def __init__(self, overlap: bool, budget: int = 8, cut: int = 0, fails_at: int = -1, dies_at: int = -1) -> None:
        self.disable_overlap_scheduler, self.budget, self.cut = not overlap, budget, cut
        self.fails_at, self.dies_at, self.passes, self.shut = fails_at, dies_at, 0, False
        self.requests: queue.Queue[Any] = queue.Queue()
        self.active_requests: list[LlmRequest] = []
        self.pause_next: set[int] = set()
        self.previous_batch: Any = None
        self.responses: dict[int, list[Any]] = {}
        self.canceled: list[int] = []
        stats = SimpleNamespace(used_num_blocks=10, max_num_blocks=BLOCKS, tokens_per_block=32)
        self.kv_cache_manager = SimpleNamespace(get_kv_cache_stats=lambda: stats)
        self.resource_manager = SimpleNamespace(prepare_resources=lambda batch: None)
        self.worker_thread = threading.Thread(target=self._event_loop, daemon=True)
        self.worker_thread.start()

    def _event_loop(self) -> None:
        while not self.shut:
            if self._fetch():
                break
            self.passes += 1
            if self.passes == self.dies_at:
                return
            batch = self._schedule()[0]
            if self.disable_overlap_scheduler:
                self._plain_pass(batch)
            else:
                self._overlapped_pass(batch)

    def _plain_pass(self, batch: Any) -> None:
        if self._size(batch):
            self.resource_manager.prepare_resources(batch)
            self._forward_step(batch)
            self._update_requests(self._sample_async(batch, None), self.resource_manager)
            self._handle_responses()

    def _overlapped_pass(self, batch: Any) -> None:
        state = None
        if self._size(batch):
            self.resource_manager.prepare_resources(batch)
            self._forward_step(batch, None)
        if self.previous_batch is not None:
            self._update_requests(self.previous_batch.sample_state)
        if self._size(batch):
            state = self._sample_async(batch, None)
        if self.previous_batch is not None:
            self._handle_responses()
        if state is not None:
            self.previous_batch = SimpleNamespace(sample_state=state)

    def _size(self, batch: Any) -> int:
        return len(batch.context_requests) + len(batch.generation_requests)

    def _fetch(self) -> bool:
        """Takes what is queued, waiting for it where nothing runs; whether it is the end."""
        while True:
            try:
                item = self.requests.get(block=not self.active_requests)
            except queue.Empty:
                return False
            if item is None:
                return True
            self.active_requests.append(item)

    def _schedule(self) -> tuple[Any, list[Any], int]:
        paused = [r for r in self.active_requests if r.py_request_id in self.pause_next]
        self.pause_next = set()
        context, generation, left = [], [], self.budget
        for request in paused:
            request.context, request.launched = request.orig_prompt_len + request.given, request.given
        for request in self.active_requests:
            if request in paused or request.launched >= request.limit:
                continue
            if request.context:
                if not left:
                    continue
                request.context_chunk_size = min(request.context, left)
                request.is_last_context_chunk = request.context_chunk_size == request.context
                left -= request.context_chunk_size
                context.append(request)
            else:
                generation.append(request)
        batch = SimpleNamespace(context_requests=context, generation_requests=generation, paused_requests=paused)
        return batch, [], len(context) + len(generation)

    def _forward_step(self, batch: Any, new_tensors_device: Any = None) -> Any:
        time.sleep(0.001)
        batch.sampled = []
        if self.passes == self.fails_at:
            self._handle_errors("CUDA error: an illegal memory access was encountered")
            return None
        batch.sampled = [r for r in batch.context_requests if r.is_last_context_chunk] + batch.generation_requests
        for request in batch.context_requests:
            request.context -= request.context_chunk_size
        for request in batch.sampled:
            request.launched += 1
        return {}

    def _sample_async(self, batch: Any, outputs: Any) -> Any:
        return SimpleNamespace(scheduled_requests=batch)

    def _update_requests(self, sample_state: Any, resource_manager: Any = None) -> None:
        batch = sample_state.scheduled_requests
        self.new = {r.py_request_id: [7] for r in batch.sampled if r.given < min(r.launched, r.limit)}

    def _handle_responses(self) -> list[Any]:
        responses, left = [], []
        for request in self.active_requests:
            ids = self.new.get(request.py_request_id, [])
            request.given += len(ids)
            done = request.given >= request.limit
            if ids:
                responses.append((request.py_request_id, Response(Result(ids, done))))
            if not done:
                left.append(request)
        self.active_requests[:] = left
        self._enqueue_responses(responses)
        return []

    def _handle_errors(self, message: str) -> None:
        failed, self.active_requests[:] = list(self.active_requests), []
        self._enqueue_responses([(r.py_request_id, Response(None, message)) for r in failed])

    def _enqueue_responses(self, responses: Any) -> None:
        for name, response in responses:
            self.responses.setdefault(name, []).append(response)

    def cancel_request(self, name: int) -> None:
        self.canceled.append(name)


class Worker:
    def __init__(self, engine: PyExecutor) -> None:
        self.engine, self.ids = engine, 0

    def _get_next_client_id(self) -> int:
        self.ids += 1
        return self.ids

    def _enqueue_request(self, request: Any) -> int:
        name = 1000 + request.id
        self.engine.requests.put(LlmRequest(name, request, self.engine.cut))
        return name


class GenerationRequest:
    def __init__(self, prompt_token_ids: list[int], sampling_params: Any, streaming: bool = False) -> None:
        assert streaming  # else tokens come only with the last
        assert sampling_params.ignore_eos
        self.prompt_token_ids, self.sampling_params = prompt_token_ids, sampling_params

    def set_id(self, name: int) -> None:
        self.id = name


@pytest.fixture
def adapter_on(monkeypatch):
    """adapter_on(executor): the adapter in charge of that double."""
    for name in (
        "tensorrt_llm",
        "tensorrt_llm.executor",
        "tensorrt_llm.executor.request",
        "tensorrt_llm.sampling_params",
    ):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = sys.modules["tensorrt_llm.executor.request"]
    monkeypatch.setattr(module, "GenerationRequest", GenerationRequest, raising=False)
    monkeypatch.setattr(sys.modules["tensorrt_llm.sampling_params"], "SamplingParams", SimpleNamespace, raising=False)
    executors = []

    def make(executor: PyExecutor) -> Adapter:
        executors.append(executor)
        adapter = Adapter()
        adapter.attach(Worker(executor))
        return adapter

    yield make
    for executor in executors:
        executor.shut = True
        executor.requests.put(None)
        executor.worker_thread.join(5)


LENGTHS = [(5, 4), (11, 3), (2, 6), (17, 1)]


@pytest.mark.parametrize("overlap", [False, True])
def test_every_position_and_token_is_counted_once(adapter_on, tmp_path, overlap):
    executor = PyExecutor(overlap)
    out = driven(adapter_on(executor), work(LENGTHS), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [output for _, output in LENGTHS]
    assert out.steps["prefill_tokens"].sum() == sum(prompt for prompt, _ in LENGTHS)
    assert out.steps["decode_tokens"].sum() == sum(output - 1 for _, output in LENGTHS)
    assert out.figures["checks"] == []
    assert not executor.responses  # nothing piles up where nobody collects it


@pytest.mark.parametrize("overlap", [False, True])
def test_a_second_burst_is_told_like_the_first(adapter_on, tmp_path, overlap):
    out = driven(adapter_on(PyExecutor(overlap)), work([(4, 3), (5, 3)], due_ns=[0, 200_000_000]), tmp_path / "t")
    made = zip(
        *(out.steps[name].tolist() for name in ("prefill_tokens", "decode_tokens", "output_tokens")), strict=True
    )
    assert list(made) == [(4, 0, 1), (0, 1, 1), (0, 1, 1), (5, 0, 1), (0, 1, 1), (0, 1, 1)]
    assert out.figures["checks"] == []


@pytest.mark.parametrize("overlap", [False, True])
def test_a_prompt_in_chunks_takes_steps_without_tokens(adapter_on, tmp_path, overlap):
    out = driven(adapter_on(PyExecutor(overlap)), work([(20, 3)]), tmp_path / "t")
    made = zip(
        *(out.steps[name].tolist() for name in ("prefill_tokens", "decode_tokens", "output_tokens")), strict=True
    )
    assert list(made) == [(8, 0, 0), (8, 0, 0), (4, 0, 1), (0, 1, 1), (0, 1, 1)]


def test_with_overlap_a_step_spans_the_launch_of_its_batch_and_of_the_next(adapter_on, tmp_path):
    out = driven(adapter_on(PyExecutor(overlap=True)), work([(4, 3)]), tmp_path / "t")
    assert out.steps["execute_ns"][0] >= 2_000_000  # two forward passes of 1 ms before the first tokens are out
    assert (out.steps["start_ns"][1:] == out.steps["end_ns"][:-1]).all()


def test_the_first_step_after_a_pause_in_the_load_begins_when_the_engine_wakes(adapter_on, tmp_path):
    out = driven(adapter_on(PyExecutor(overlap=False)), work([(4, 2), (4, 2)], due_ns=[0, 400_000_000]), tmp_path / "t")
    idle = out.steps["start_ns"][2] - out.steps["end_ns"][1]
    assert idle > 50_000_000


def test_what_a_paused_request_computes_again_is_prefill_but_for_its_newest_token(adapter_on, tmp_path):
    executor = PyExecutor(overlap=False, budget=64)
    adapter = adapter_on(executor)
    step = adapter.step
    paused: set[int] = set()

    def pausing():
        report = step()
        if executor.passes >= 3 and not paused:
            paused.update(r.py_request_id for r in executor.active_requests)
            executor.pause_next = set(paused)
        return report

    adapter.step = pausing
    out = driven(adapter, work([(4, 40)]), tmp_path / "t")
    assert out.steps["preempted"].sum() == 1
    assert out.steps["decode_tokens"].sum() == 39
    assert out.steps["prefill_tokens"].sum() > 4
    assert out.figures["checks"] == []


def test_requests_behind_the_batch_are_waiting(adapter_on, tmp_path):
    out = driven(adapter_on(PyExecutor(overlap=False, budget=4)), work([(4, 8)] * 3), tmp_path / "t")
    assert out.steps["waiting"].max() >= 1
    assert out.steps["waiting"][-1] == 0
    assert set(out.steps["kv_usage"]) == {10 / BLOCKS}


def test_an_output_cut_short_is_found_at_its_end(adapter_on, tmp_path):
    with pytest.raises(WrongTokenCount, match="was to produce 5 tokens and ended with 4"):
        driven(adapter_on(PyExecutor(overlap=True, cut=1)), work([(4, 5)]), tmp_path / "t")


def test_an_error_in_the_middle_ends_the_run_with_the_engines_words(adapter_on, tmp_path):
    with pytest.raises(RuntimeError, match="illegal memory access"):
        driven(adapter_on(PyExecutor(overlap=True, fails_at=3)), work([(4, 9)]), tmp_path / "t")


def test_a_loop_that_died_silently_is_noticed(adapter_on, tmp_path):
    with pytest.raises(RuntimeError, match="loop has ended"):
        driven(adapter_on(PyExecutor(overlap=False, dies_at=2)), work([(4, 9)]), tmp_path / "t")


def test_a_step_waits_no_longer_than_until_a_request_is_due(adapter_on, monkeypatch):
    asked = []

    def no_time(due_ns):
        asked.append(due_ns)
        return 0.0

    monkeypatch.setattr("engines.tensorrt_llm.seconds_left", no_time)
    adapter = adapter_on(PyExecutor(overlap=True))
    adapter.due_ns = 5_000
    assert adapter.step() is None
    assert asked == [5_000]


def test_closing_cancels_what_still_runs(adapter_on, tmp_path):
    executor = PyExecutor(overlap=False)
    adapter = adapter_on(executor)
    driven(adapter, work([(4, 100_000)], duration_ns=20_000_000), tmp_path / "t")
    adapter._llm = SimpleNamespace(shutdown=lambda: None)
    adapter.close()
    assert executor.canceled == [1001]


def test_common_settings_become_arguments_of_llm():
    found = native_arguments(make_load(kv_cache_tokens=1000, chunked_prefill=True, cuda_graphs=False))
    assert (found["max_seq_len"], found["max_batch_size"]) == (4096, 64)
    assert found["max_num_tokens"] == 2048
    assert found["kv_cache_config"] == {"enable_block_reuse": False, "max_tokens": 1000}
    assert found["enable_chunked_prefill"] is True
    assert found["cuda_graph_config"] is None
    unset = native_arguments(make_load(kv_memory_fraction=0.8))
    assert not {"cuda_graph_config", "enable_chunked_prefill"} & unset.keys()
    assert unset["kv_cache_config"]["free_gpu_memory_fraction"] == 0.8


def test_a_share_of_the_device_becomes_one_of_what_the_weights_leave_free(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(200))
    load = make_load(kv_memory_fraction=0.9, checkpoint=str(tmp_path))
    assert free_share(load, free=1000, total=1000) == 0.875  # 700 of the 800 that are left, with the weights' 200
    with pytest.raises(UnsupportedSetting, match="kv_memory_fraction"):
        free_share(load, free=250, total=1000)


def test_an_argument_of_its_own_wins():
    assert native_arguments(make_load(engine_args={"disable_overlap_scheduler": True}))["disable_overlap_scheduler"]


@pytest.mark.parametrize("settings", [{"tensor_parallel": 2}, {"quantization": "awq"}, {"dtype": "float32"}])
def test_what_it_cannot_honour_is_refused_by_name(settings):
    with pytest.raises(UnsupportedSetting, match=next(iter(settings))):
        native_arguments(make_load(**settings))
