"""MLC-LLM's adapter on a double of `SyncMLCEngine`, through the real loop, recorder and analysis.

The double follows `EngineImpl::Step` and `ActionStepPostProcess`: one action a step, one callback at its end, a usage
record behind every request that ends, and a request that is too long refused while it is added.
"""

from __future__ import annotations

import sys
import time
import types
from types import SimpleNamespace
from typing import Any

import pytest

from engines.base import Request, UnsupportedSetting, WrongTokenCount
from engines.mlc_llm import NO_GRAPHS, Adapter, native_arguments, preparation, preparation_steps

from .driving import driven, work
from .loads import make_load


class Output:
    """A RequestStreamOutput."""

    def __init__(self, name: str, ids: list[int], reason: str | None = None, usage: str | None = None) -> None:
        self._name = name
        self._stream = SimpleNamespace(
            delta_token_ids=ids, finish_reason=reason, request_final_usage_json_str=usage, extra_prefix_string=""
        )

    def unpack(self) -> tuple[str, list[Any]]:
        return self._name, [self._stream]


class Engine:
    """`longest`: the longest sequence; `chunk`: prompt tokens an action; `fails_at`: the step that raises."""

    def __init__(self, callback: Any, longest: int = 100, chunk: int = 8, fails_at: int = -1) -> None:
        self.callback, self.longest, self.chunk, self.fails_at = callback, longest, chunk, fails_at
        self.waiting: list[SimpleNamespace] = []
        self.running: list[SimpleNamespace] = []
        self.sums = {"engine_prefill_time_sum": 0.0, "engine_decode_time_sum": 0.0}
        self.steps, self.was_reset = 0, False

    def create_request(self, name: str, inputs: Any, generation: Any) -> SimpleNamespace:
        assert generation.debug_config.ignore_eos
        assert generation.temperature == 0.0
        prompt = len(inputs[0])
        return SimpleNamespace(name=name, prompt=prompt, left=prompt, given=0, limit=generation.max_tokens)

    def add_request(self, request: SimpleNamespace) -> None:
        if request.prompt >= self.longest:
            self.callback([Output(request.name, [], "length")])
        else:
            self.waiting.append(request)

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.fails_at:
            raise ValueError("TVMError: CUDA: an illegal memory access was encountered")
        time.sleep(0.001)
        if self.waiting:
            self.sums["engine_prefill_time_sum"] += 0.001
            sampled = self._prefill()
        else:
            self.sums["engine_decode_time_sum"] += 0.001
            sampled = list(self.running)
        self._tell(sampled)

    def _prefill(self) -> list[SimpleNamespace]:
        """In hybrid mode the tokens of those that run go along."""
        sampled, left = list(self.running), self.chunk
        while self.waiting and left:
            request = self.waiting[0]
            taken = min(left, request.left)
            request.left, left = request.left - taken, left - taken
            if not request.left:
                self.running.append(self.waiting.pop(0))
                sampled.append(request)
        return sampled

    def _tell(self, sampled: list[SimpleNamespace]) -> None:
        outputs, usages = [], []
        for request in sampled:
            request.given += 1
            done = request.given >= request.limit or request.prompt + request.given >= self.longest
            outputs.append(Output(request.name, [7], "length" if done else None))
            if done:
                self.running.remove(request)
                usages.append(Output(request.name, [], None, "{}"))
        if outputs:
            self.callback(outputs + usages)

    def metrics(self) -> dict[str, float]:
        return dict(self.sums)

    def reset(self) -> None:
        self.was_reset = True


@pytest.fixture
def adapter_on(monkeypatch):
    """adapter_on(longest=..., ...): the adapter in charge of a double."""
    names = ("mlc_llm", "mlc_llm.protocol", "mlc_llm.serve", "mlc_llm.serve.data")
    protocols = ("mlc_llm.protocol.debug_protocol", "mlc_llm.protocol.generation_config")
    for name in (*names, *protocols):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules[protocols[0]], "DebugConfig", SimpleNamespace, raising=False)
    monkeypatch.setattr(sys.modules[protocols[1]], "GenerationConfig", SimpleNamespace, raising=False)
    monkeypatch.setattr(sys.modules["mlc_llm.serve.data"], "TokenData", list, raising=False)

    def make(**options: Any) -> Adapter:
        adapter = Adapter()
        adapter.attach(Engine(adapter._streamed, **options))
        return adapter

    return make


LENGTHS = [(5, 4), (11, 3), (2, 6), (17, 1)]


def test_every_token_is_counted_once_and_no_figure_is_made_up(adapter_on, tmp_path):
    out = driven(adapter_on(), work(LENGTHS), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [output for _, output in LENGTHS]
    assert out.steps["decode_tokens"].sum() == sum(output - 1 for _, output in LENGTHS)
    assert out.figures["checks"] == []
    for name in ("prefill_tokens", "running", "waiting", "preempted"):
        assert name in Adapter.cannot_report
        assert (out.steps[name] == -1).all()


def test_a_prefill_also_carries_the_tokens_of_what_runs(adapter_on, tmp_path):
    out = driven(adapter_on(), work([(8, 5), (16, 2)]), tmp_path / "t")
    assert out.steps["output_tokens"].tolist() == [1, 1, 2, 2, 1]
    assert out.steps["decode_tokens"].tolist() == [0, 1, 1, 2, 1]


def test_the_actions_time_is_taken_from_the_engines_sums(adapter_on, tmp_path):
    out = driven(adapter_on(), work([(4, 3)]), tmp_path / "t")
    assert out.steps["execute_ns"].tolist() == [1_000_000] * 3


def test_a_request_refused_on_its_way_in_is_an_output_cut_short(adapter_on, tmp_path):
    with pytest.raises(WrongTokenCount, match="was to produce 2 tokens and ended with 0"):
        driven(adapter_on(longest=6), work([(8, 2)]), tmp_path / "t")


def test_an_output_that_meets_the_longest_sequence_is_found_at_its_end(adapter_on, tmp_path):
    with pytest.raises(WrongTokenCount, match="was to produce 9 tokens and ended with 6"):
        driven(adapter_on(longest=10), work([(4, 9)]), tmp_path / "t")


def test_an_error_in_the_middle_is_the_engines_own(adapter_on, tmp_path):
    with pytest.raises(ValueError, match="illegal memory access"):
        driven(adapter_on(fails_at=3), work([(4, 9)]), tmp_path / "t")


def test_closing_resets_the_engine_and_lets_go_of_it(adapter_on):
    adapter = adapter_on()
    engine = adapter._engine
    adapter.submit(Request(0, [1, 2], 5))
    adapter.close()
    assert engine.was_reset
    assert adapter._engine is None


def test_common_settings_become_fields_of_the_engine_config():
    found = native_arguments(make_load(kv_cache_tokens=1000, prefix_caching=True, tensor_parallel=2, cuda_graphs=False))
    assert found["quantization"] == "q0bf16"
    assert found["max_single_sequence_length"] == 4096
    assert found["max_num_sequence"] == 64
    assert found["prefill_chunk_size"] == 2048
    assert found["max_total_sequence_length"] == 1000
    assert found["prefix_cache_mode"] == "radix"
    assert found["tensor_parallel_shards"] == 2
    assert found["opt"] == NO_GRAPHS
    assert native_arguments(make_load(kv_memory_fraction=0.8))["gpu_memory_utilization"] == 0.8
    assert native_arguments(make_load(context_length=512))["prefill_chunk_size"] == 512


def test_a_quantized_checkpoint_is_converted_by_its_own_format():
    load = make_load(quantization="awq", dtype="float16", stored={"quant_method": "awq"})
    wanted = preparation(load, native_arguments(load), "0.26")
    assert (wanted.quantization, wanted.source_format) == ("q4f16_autoawq", "awq")
    assert wanted.overrides["max_batch_size"] == 64


def test_its_preparation_can_be_told_without_it():
    assert preparation_steps(make_load(checkpoint="CHECKPOINT", tensor_parallel=2)) == [
        "mlc_llm convert_weight CHECKPOINT --quantization q0bf16 --device cuda -o MODEL",
        "mlc_llm gen_config CHECKPOINT --quantization q0bf16 --conv-template LM -o MODEL",
        "mlc_llm compile MODEL --device cuda --opt O2 --overrides context_window_size=4096;prefill_chunk_size=2048;"
        "max_batch_size=64;tensor_parallel_shards=2 -o LIBRARY.so",
    ]


@pytest.mark.parametrize(
    "settings", [{"quantization": "gptq"}, {"quantization": "fp8"}, {"chunked_prefill": False}, {"dtype": "bfloat16"}]
)
def test_what_it_cannot_honour_is_refused_by_name(settings):
    asked = {"quantization": "awq", **settings} if "dtype" in settings else settings
    with pytest.raises(UnsupportedSetting, match=next(iter(settings))):
        native_arguments(make_load(**asked))
