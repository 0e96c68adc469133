"""TensorRT-LLM's adapter on a double of `PyExecutor`, through the real loop, recorder and analysis."""

from __future__ import annotations

import sys
import threading
import types
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.base import UnsupportedSetting, WrongTokenCount
from engines.device_memory import free_share
from engines.loop import Work
from engines.tensorrt_llm import Adapter, native_arguments
from harness.analysis.suspect import unhonoured
from harness.checkpoints.formats import fp8_config
from tests.waiting import PATIENCE_S

from .driving import driven, work
from .loads import make_load
from .tensorrt_llm_double import BLOCKS, CONTEXT_LENGTH, GenerationRequest, PyExecutor, Worker


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
    made = []

    def make(executor: PyExecutor) -> Adapter:
        adapter = Adapter()
        adapter.attach(Worker(executor))
        adapter._llm = SimpleNamespace(shutdown=executor.shutdown)
        made.append(adapter)
        return adapter

    yield make
    for adapter in made:
        adapter.close()


LENGTHS = [(5, 4), (11, 3), (2, 6), (17, 1)]


def after_a_rest(first: tuple[int, int], second: tuple[int, int], rest_ns: int) -> Work:
    """Two requests, the second one due so long after the end of the first."""
    return replace(work([first, second], due_ns=[0, -1]), next_request=np.array([1, -1], np.int32), rest_ns=rest_ns)


@pytest.mark.parametrize(("overlap", "withholds"), [(False, False), (True, False), (True, True)])
def test_every_position_and_token_is_counted_once(adapter_on, tmp_path, overlap, withholds):
    executor = PyExecutor(overlap, withholds=withholds)
    out = driven(adapter_on(executor), work(LENGTHS), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [output for _, output in LENGTHS]
    assert out.steps["prefill_tokens"].sum() == sum(prompt for prompt, _ in LENGTHS)
    assert out.steps["decode_tokens"].sum() == sum(output - 1 for _, output in LENGTHS)
    assert out.figures["checks"] == []
    assert not executor.responses  # nothing piles up where nobody collects it


@pytest.mark.parametrize("overlap", [False, True])
def test_a_second_burst_is_told_like_the_first(adapter_on, tmp_path, overlap):
    out = driven(adapter_on(PyExecutor(overlap)), after_a_rest((4, 3), (5, 3), 20_000_000), tmp_path / "t")
    made = zip(
        *(out.steps[name].tolist() for name in ("prefill_tokens", "decode_tokens", "output_tokens")), strict=True
    )
    assert list(made) == [(4, 0, 1), (0, 1, 1), (0, 1, 1), (5, 0, 1), (0, 1, 1), (0, 1, 1)]
    assert out.figures["checks"] == []


def test_where_the_token_before_the_last_is_withheld_the_last_step_brings_two(adapter_on, tmp_path):
    out = driven(adapter_on(PyExecutor(overlap=True, withholds=True)), work([(4, 4)]), tmp_path / "t")
    made = zip(*(out.steps[name].tolist() for name in ("decode_tokens", "output_tokens")), strict=True)
    assert list(made) == [(0, 1), (1, 1), (1, 0), (1, 2)]
    assert out.figures["checks"] == []


@pytest.mark.parametrize("overlap", [False, True])
def test_a_burst_into_an_idle_engine_starts_with_a_batch_of_one(adapter_on, tmp_path, overlap):
    executor = PyExecutor(overlap, budget=64, expects=4)
    adapter = adapter_on(executor)
    assert executor.at_rest.wait(PATIENCE_S)
    out = driven(adapter, work([(4, 20)] * 4), tmp_path / "t")
    assert out.steps["running"][0] == 1
    assert out.steps["running"].max() == 4
    assert out.steps["waiting"][-1] == 0
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
    out = driven(adapter_on(PyExecutor(overlap=False)), after_a_rest((4, 2), (4, 2), 50_000_000), tmp_path / "t")
    idle = out.steps["start_ns"][2] - out.steps["end_ns"][1]
    assert idle >= 50_000_000


def test_what_a_paused_request_computes_again_is_prefill_but_for_its_newest_token(adapter_on, tmp_path):
    out = driven(adapter_on(PyExecutor(overlap=False, budget=64, pauses_at=4)), work([(4, 9)]), tmp_path / "t")
    assert out.steps["preempted"].sum() == 1
    assert out.steps["decode_tokens"].sum() == 8
    assert out.steps["prefill_tokens"].sum() == 4 + 6  # the prompt, and with two of the three tokens that it had
    assert out.figures["checks"] == []


def test_requests_behind_the_batch_are_waiting(adapter_on, tmp_path):
    out = driven(adapter_on(PyExecutor(overlap=False, budget=4, expects=3)), work([(4, 8)] * 3), tmp_path / "t")
    assert out.steps["waiting"].max() >= 1
    assert out.steps["waiting"][-1] == 0
    assert set(out.steps["kv_usage"]) == {10 / BLOCKS}


def test_an_output_cut_short_is_found_at_its_end(adapter_on, tmp_path):
    with pytest.raises(WrongTokenCount, match="was to produce 5 tokens and ended with 4"):
        driven(adapter_on(PyExecutor(overlap=True, cut=1)), work([(4, 5)]), tmp_path / "t")


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_in_the_middle_ends_the_run_with_the_engines_words(adapter_on, tmp_path, overlap):
    with pytest.raises(RuntimeError, match="illegal memory access"):
        driven(adapter_on(PyExecutor(overlap, fails_at=3)), work([(4, 9)]), tmp_path / "t")


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exception_that_ends_the_loop_is_told_by_its_words(adapter_on, tmp_path, monkeypatch, overlap):
    heard: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    with pytest.raises(RuntimeError, match="TensorRT-LLM: RuntimeError: no free block is left"):
        driven(adapter_on(PyExecutor(overlap, dies_at=2)), work([(4, 9)]), tmp_path / "t")
    assert len(heard) == 1  # who listened before still hears of it


def test_an_exception_in_another_thread_is_not_the_engines(adapter_on, tmp_path, monkeypatch):
    heard: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    adapter = adapter_on(PyExecutor(overlap=True))
    other = threading.Thread(target=lambda: 1 / 0)
    other.start()
    other.join()
    assert driven(adapter, work([(4, 3)]), tmp_path / "t").figures["checks"] == []
    assert len(heard) == 1


def test_a_loop_that_ended_without_a_word_is_noticed(adapter_on):
    executor = PyExecutor(overlap=False)
    adapter = adapter_on(executor)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="loop has ended"):
        adapter.step()


def test_a_prompt_longer_than_a_step_is_refused_where_it_would_not_be_split(adapter_on, tmp_path):
    with pytest.raises(ValueError, match=r"request 1: a prompt of 9 tokens .* step \(8\).*chunked_prefill=true"):
        driven(adapter_on(PyExecutor(overlap=True, chunked=False)), work([(8, 2), (9, 2)]), tmp_path / "t")


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


@pytest.mark.parametrize("overlap", [False, True])
def test_closing_cancels_what_still_runs(adapter_on, tmp_path, overlap):
    executor, hook = PyExecutor(overlap), threading.excepthook
    adapter = adapter_on(executor)
    assert threading.excepthook is not hook
    driven(adapter, work([(4, 100_000)], duration_ns=20_000_000), tmp_path / "t")
    adapter.close()
    assert not executor.worker_thread.is_alive()
    assert threading.excepthook is hook


def info(adapter, **settings):
    load = make_load(**settings)
    return adapter._info("1.2.0", native_arguments(load), load)


@pytest.mark.parametrize("overlap", [False, True])
def test_what_was_asked_for_is_found_honoured(adapter_on, overlap):
    asked: dict[str, Any] = {"max_tokens_per_step": 2048, "kv_cache_tokens": 1270, "chunked_prefill": True}
    found = info(adapter_on(PyExecutor(overlap, budget=2048)), **asked)
    assert unhonoured(make_load(**asked).settings, found.effective) == []
    assert found.effective["context_length"] == CONTEXT_LENGTH
    assert found.effective["kv_cache_tokens"] == 1280
    assert found.kv_cache_bytes == 1280 * 2 * 32 * 8 * 128 * 2  # keys and values, layers, KV heads, 4096 / 32, bf16
    assert found.effective["async_scheduling"] is overlap


def test_what_the_engine_made_of_the_settings_is_read_and_not_repeated(adapter_on):
    executor = PyExecutor(overlap=False, budget=512, chunked=False)
    executor.llm_args.enable_chunked_prefill = True  # its model cannot
    executor.model_engine.dtype, executor.max_seq_len = "torch.float16", 1280
    executor.kv_cache_manager.dtype.name = "FP8"
    asked: dict[str, Any] = {"chunked_prefill": True, "context_length": 4096}
    found = info(adapter_on(executor), **asked)
    assert (found.effective["dtype"], found.effective["kv_cache_dtype"]) == ("float16", "fp8")
    assert found.kv_cache_bytes is None
    told = {reason.detail.partition(":")[0] for reason in unhonoured(make_load(**asked).settings, found.effective)}
    assert told == {"dtype", "context_length", "max_tokens_per_step", "chunked_prefill"}


def test_weights_that_were_loaded_as_unquantized_are_noticed(adapter_on):
    executor = PyExecutor(overlap=True)
    adapter, asked = adapter_on(executor), {"quantization": "fp8", "stored": fp8_config(128)}
    with pytest.raises(UnsupportedSetting, match="quantization=fp8"):
        info(adapter, **asked)
    executor.model_engine.model.model_config.quant_config.quant_algo = "FP8_BLOCK_SCALES"
    assert info(adapter, **asked).effective["quantization"] == "fp8_block_scales"


def test_common_settings_become_arguments_of_llm():
    found = native_arguments(make_load(kv_cache_tokens=1000, chunked_prefill=True, cuda_graphs=False))
    assert (found["max_seq_len"], found["max_batch_size"]) == (4096, 64)
    assert found["max_num_tokens"] == 2048
    assert found["kv_cache_config"] == {"enable_block_reuse": False, "max_tokens": 1024}  # whole blocks of 32
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


@pytest.mark.parametrize(
    "stored",
    [
        fp8_config(None),
        fp8_config(64),
        {"quant_method": "fp8", "activation_scheme": "static"},
        {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"},
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
    ],
)
def test_a_format_that_it_would_take_for_unquantized_weights_is_refused(stored):
    with pytest.raises(UnsupportedSetting, match=r"quantization=fp8: .* 128 x 128"):
        native_arguments(make_load(quantization="fp8", stored=stored))


def test_fp8_in_blocks_is_run_in_bfloat16_only():
    stored = fp8_config(128)
    assert native_arguments(make_load(quantization="fp8", stored=stored))["dtype"] == "bfloat16"
    with pytest.raises(UnsupportedSetting, match=r"quantization=fp8: .* in bfloat16 only"):
        native_arguments(make_load(quantization="fp8", stored=stored, dtype="float16"))
