"""MLC-LLM's adapter on a double of `SyncMLCEngine`, through the real loop, recorder and analysis."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.contract import Load, Request, UnsupportedSetting, WrongTokenCount
from innerloop.engines.mlc_llm import Adapter, Limits
from innerloop.engines.mlc_llm.prepare import Preparation, Ready
from innerloop.engines.mlc_llm.settings import NO_GRAPHS, native_arguments, preparation, preparation_steps
from innerloop.engines.worker import trace
from tests.engines.mlc_llm.double import Engine
from tests.engines.support.driving import driven, work
from tests.engines.support.loads import make_load


@pytest.fixture
def adapter_on(monkeypatch):
    """adapter_on(limits, longest=..., ...): the adapter in charge of a double, told those `limits` of it."""
    names = ("mlc_llm", "mlc_llm.protocol", "mlc_llm.serve", "mlc_llm.serve.data")
    protocols = ("mlc_llm.protocol.debug_protocol", "mlc_llm.protocol.generation_config")
    for name in (*names, *protocols):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules[protocols[0]], "DebugConfig", SimpleNamespace, raising=False)
    monkeypatch.setattr(sys.modules[protocols[1]], "GenerationConfig", SimpleNamespace, raising=False)
    monkeypatch.setattr(sys.modules["mlc_llm.serve.data"], "TokenData", list, raising=False)

    def make(limits: Limits | None = None, **options: Any) -> Adapter:
        adapter = Adapter()
        adapter.attach(Engine(adapter._streamed, **options), limits=limits)
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
    out = driven(adapter_on(), work([(8, 5), (14, 2)]), tmp_path / "t")
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


def test_a_request_that_never_fits_into_the_kv_cache_ends_the_run(adapter_on, tmp_path):
    adapter = adapter_on(longest=4096, chunk=1024, total=1024)
    with pytest.raises(RuntimeError, match=r"1 request.* does not fit into the KV cache.*kv_cache_tokens"):
        driven(adapter, work([(1020, 2)]), tmp_path / "t")
    assert adapter._engine.steps == 2
    assert trace.records(tmp_path / "t", "steps").size == 0


def test_one_that_stops_fitting_while_it_grows_ends_the_run(adapter_on, tmp_path):
    adapter = adapter_on(longest=1024, chunk=1024, total=1024, places=1)
    with pytest.raises(RuntimeError, match="does not fit into the KV cache"):
        driven(adapter, work([(1000, 24)]), tmp_path / "t")
    assert trace.records(tmp_path / "t", "steps")["output_tokens"].sum() == 17


def test_a_step_that_only_throws_requests_out_computes_nothing(adapter_on, tmp_path):
    adapter = adapter_on(longest=1024, chunk=1024, total=1024, places=1)
    out = driven(adapter, work([(1000, 15)]), tmp_path / "t")
    assert adapter._engine.preempted == 14
    assert adapter._engine.steps == 29
    assert out.steps.size == 15
    assert out.requests["output_tokens"].tolist() == [15]


def test_what_cannot_fit_is_refused_when_it_is_submitted(adapter_on):
    adapter = adapter_on(Limits(context_length=64, total=40), longest=80, total=40)
    adapter.submit(Request(0, [7] * 20, 13))
    with pytest.raises(ValueError, match="request 1 is longer than context_length 64"):
        adapter.submit(Request(1, [7] * 60, 5))
    with pytest.raises(ValueError, match=r"request 2 .*does not fit into the KV cache.*kv_cache_tokens 40"):
        adapter.submit(Request(2, [7] * 33, 1))
    with pytest.raises(ValueError, match=r"request 3 .*does not fit"):
        adapter.submit(Request(3, [7] * 20, 14))  # its last position would never be computed
    assert len(adapter._engine.waiting) == 1


def test_what_just_fits_comes_to_its_end(adapter_on, tmp_path):
    out = driven(adapter_on(Limits(64, 40), longest=80, total=40), work([(20, 13)]), tmp_path / "t")
    assert out.requests["output_tokens"].tolist() == [13]


@pytest.mark.parametrize(("lengths", "places"), [([(1000, 24)], 1), ([(512, 512)], 1), ([(512, 500)] * 32, 32)])
def test_with_the_engines_own_kv_cache_no_request_is_thrown_out(adapter_on, tmp_path, monkeypatch, lengths, places):
    monkeypatch.setattr("time.sleep", lambda _: None)
    found = native_arguments(make_load(context_length=1024, max_batch_size=places))
    longest, seqs = found["max_single_sequence_length"], found["max_num_sequence"]
    total = seqs * longest  # cpp/serve/config.cc, where the memory suffices
    adapter = adapter_on(longest=longest, chunk=found["prefill_chunk_size"], places=seqs, total=total)
    out = driven(adapter, work(lengths), tmp_path / "t")
    assert adapter._engine.preempted == 0
    assert out.requests["output_tokens"].tolist() == [output for _, output in lengths]


def test_positions_computed_again_are_told_when_it_closes(adapter_on, tmp_path, capfd):
    adapter = adapter_on(longest=1024, chunk=1024, total=1024, places=1)
    driven(adapter, work([(1000, 3)]), tmp_path / "t")
    adapter.close()
    assert "at least 2003 positions" in capfd.readouterr().err  # 1001 and 1002


def test_without_recomputation_nothing_is_said(adapter_on, tmp_path, capfd):
    adapter = adapter_on()
    driven(adapter, work(LENGTHS), tmp_path / "t")
    adapter.close()
    assert capfd.readouterr().err == ""


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


def of_type(model_type: str, **settings: Any) -> Load:
    """A load of a checkpoint of that model type."""
    load = make_load(**settings)
    return replace(load, config={**load.config, "model_type": model_type})


def test_common_settings_become_fields_of_the_engine_config():
    found = native_arguments(make_load(kv_cache_tokens=1000, prefix_caching=True, tensor_parallel=2, cuda_graphs=False))
    assert found["quantization"] == "q0bf16"
    assert found["max_single_sequence_length"] == 4096
    assert native_arguments(make_load())["max_single_sequence_length"] == 4096 + 176
    assert native_arguments(of_type("gpt2"))["max_single_sequence_length"] == 4096  # learned positions
    assert found["max_num_sequence"] == 64
    assert found["prefill_chunk_size"] == 2048
    assert found["max_total_sequence_length"] == 1000
    assert found["prefix_cache_mode"] == "radix"
    assert found["tensor_parallel_shards"] == 2
    assert found["opt"] == NO_GRAPHS
    assert native_arguments(make_load(kv_memory_fraction=0.8))["gpu_memory_utilization"] == 0.8
    assert native_arguments(make_load(context_length=512))["prefill_chunk_size"] == 512


def test_a_quantized_checkpoint_is_converted_by_its_own_format():
    load = of_type("llama", quantization="awq", dtype="float16", stored={"quant_method": "awq"})
    wanted = preparation(load, native_arguments(load), "0.26", "tvm 0.26")
    assert (wanted.quantization, wanted.source_format) == ("q4f16_autoawq", "awq")
    assert wanted.overrides["max_batch_size"] == 64


def test_its_preparation_can_be_told_without_it():
    assert preparation_steps(make_load(checkpoint="CHECKPOINT", tensor_parallel=2)) == [
        "mlc_llm convert_weight CHECKPOINT --quantization q0bf16 --device cuda -o MODEL",
        "mlc_llm gen_config CHECKPOINT --quantization q0bf16 --conv-template LM -o MODEL",
        "mlc_llm compile MODEL --device cuda --opt O2 --overrides context_window_size=4272;prefill_chunk_size=2048;"
        "max_batch_size=64;tensor_parallel_shards=2 -o LIBRARY.so",
    ]


@pytest.mark.parametrize(
    "settings", [{"quantization": "gptq"}, {"quantization": "fp8"}, {"chunked_prefill": False}, {"dtype": "bfloat16"}]
)
def test_what_it_cannot_honour_is_refused_by_name(settings):
    asked = {"quantization": "awq", **settings} if "dtype" in settings else settings
    with pytest.raises(UnsupportedSetting, match=next(iter(settings))):
        native_arguments(make_load(**asked))


def test_awq_is_refused_for_a_model_that_it_does_not_read_awq_of():
    with pytest.raises(UnsupportedSetting, match=r"quantization=awq: .* AWQ of .*llama.* only, not qwen2"):
        native_arguments(of_type("qwen2", quantization="awq", dtype="float16"))


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The package, its version as in libinfo.py, held by distributions; what was prepared and built lands in a list."""
    for name in ("mlc_llm", "mlc_llm.serve", "mlc_llm.serve.config", "mlc_llm.serve.sync_engine", "tvm"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["mlc_llm"], "__version__", "0.1.dev0", raising=False)
    for distribution, version, holds in (("mlc_llm_nightly_cu130", "0.26.dev7", "mlc_llm"), ("mlc_ai", "0.25", "tvm")):
        info = tmp_path / f"{distribution}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "top_level.txt").write_text(f"{holds}\n")
    monkeypatch.syspath_prepend(tmp_path)
    prepared: list[Preparation] = []

    def prepare(wanted: Preparation) -> Ready:
        prepared.append(wanted)
        return Ready(tmp_path / "model", tmp_path / "library.so")

    monkeypatch.setattr("innerloop.engines.mlc_llm.prepare", prepare)
    monkeypatch.setattr(sys.modules["mlc_llm.serve.config"], "EngineConfig", Config, raising=False)
    monkeypatch.setattr(sys.modules["mlc_llm.serve.sync_engine"], "SyncMLCEngine", make_engine, raising=False)
    return prepared


@dataclass
class Config:
    """An EngineConfig."""

    verbose: bool = True
    max_single_sequence_length: int | None = None
    max_num_sequence: int | None = None
    max_total_sequence_length: int | None = None
    prefill_chunk_size: int | None = None
    prefix_cache_mode: str = "radix"


def make_engine(*, model, device, model_lib, mode, engine_config, request_stream_callback) -> Engine:
    """SyncMLCEngine's constructor."""
    config, total = engine_config, engine_config.max_total_sequence_length
    return Engine(
        request_stream_callback,
        longest=config.max_single_sequence_length,
        chunk=config.prefill_chunk_size,
        total=config.max_num_sequence * config.max_single_sequence_length if total is None else total,
        places=config.max_num_sequence,
    )


def test_the_version_is_that_of_the_distribution_that_holds_the_package(adapter_on, package):
    assert Adapter().imports() == "0.26.dev7"
    info = Adapter().load(make_load())
    assert info.version == "0.26.dev7"
    assert info.notes == ()
    assert package[0].version == "0.26.dev7"
    assert package[0].compiler == "mlc_ai 0.25"


def test_without_a_distribution_it_is_the_packages_own(package, monkeypatch):
    monkeypatch.setattr("innerloop.engines.mlc_llm.packages_distributions", dict)
    assert Adapter().imports() == "0.1.dev0"


def test_the_context_length_stays_the_users(adapter_on, package):
    adapter = Adapter()
    info = adapter.load(make_load(context_length=1024))
    assert info.effective["context_length"] == 1024
    assert info.native["max_single_sequence_length"] == 1200
    assert package[0].overrides["context_window_size"] == 1200
    with pytest.raises(ValueError, match="longer than context_length 1024"):
        adapter.submit(Request(0, [7] * 1000, 25))
    adapter.submit(Request(1, [7] * 1000, 24))


def test_the_kv_cache_asked_for_is_what_a_request_has_to_fit_into(adapter_on, package):
    adapter = Adapter()
    adapter.load(make_load(kv_cache_tokens=1024))
    with pytest.raises(ValueError, match="kv_cache_tokens 1024"):
        adapter.submit(Request(0, [7] * 1020, 2))


def test_a_sliding_window_takes_no_request_for_too_long(adapter_on, package, monkeypatch):
    def sliding(**arguments: Any) -> Engine:
        engine = make_engine(**arguments)
        engine.model_config_dicts[0]["sliding_window_size"] = 512
        return engine

    monkeypatch.setattr(sys.modules["mlc_llm.serve.sync_engine"], "SyncMLCEngine", sliding)
    adapter = Adapter()
    adapter.load(make_load(kv_cache_tokens=1024))
    adapter.submit(Request(0, [7] * 1020, 2))


@pytest.mark.parametrize(
    ("opt", "graphs"),
    [("O0", False), ("O1", False), ("O2", True), ("O3", True), (NO_GRAPHS, False), ("flashinfer=1;cudagraph=1", True)],
)
def test_whether_there_are_cuda_graphs_is_in_the_optimizations(adapter_on, package, opt, graphs):
    assert Adapter().load(make_load(engine_args={"opt": opt})).effective["cuda_graphs"] is graphs


def test_a_batch_is_never_larger_than_an_action(adapter_on, package):
    assert Adapter().load(make_load(max_batch_size=64, max_tokens_per_step=16)).effective["max_batch_size"] == 16


def test_awq_is_not_split_over_devices():
    stored = {"quant_method": "awq"}
    with pytest.raises(UnsupportedSetting, match=r"tensor_parallel=2: .*cannot split AWQ"):
        native_arguments(of_type("llama", quantization="awq", dtype="float16", stored=stored, tensor_parallel=2))
