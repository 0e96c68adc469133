"""MLC-LLM's adapter: what the common settings become, what is refused, and how a prepared model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import packages_distributions
from typing import Any

import pytest

from innerloop.engines import mlc_llm
from innerloop.engines.contract import Load, Probe, Request, UnsupportedSetting
from innerloop.engines.mlc_llm import UNREPORTED, adapter
from innerloop.engines.mlc_llm.settings import NO_GRAPHS, RESERVED, native_arguments
from innerloop.engines.support.refusals import refuse_reserved
from innerloop.engines.worker.main import cause_of
from tests.engines.mlc_llm.double import Engine
from tests.engines.support.loads import make_load


def of_type(model_type: str, **settings: Any) -> Load:
    """A load of a checkpoint of that model type."""
    load = make_load(**settings)
    return replace(load, config={**load.config, "model_type": model_type})


def test_common_settings_become_fields_of_the_engine_config():
    load = make_load(kv_cache_tokens=1000, prefix_caching=True, tensor_parallel=2, cuda_graphs=False)
    found = adapter.arguments(load, Probe())
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


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantization": "gptq"}, "quantization=gptq: MLC-LLM does not support GPTQ, and supports FP8 only"),
        ({"quantization": "fp8"}, "quantization=fp8: MLC-LLM does not support GPTQ, and supports FP8 only"),
        ({"chunked_prefill": False}, "chunked_prefill=false: MLC-LLM always splits long prompts"),
        ({"quantization": "awq"}, "dtype=bfloat16: MLC-LLM runs AWQ in float16 only"),
    ],
)
def test_what_it_cannot_honour_is_refused_by_name(settings, words):
    with pytest.raises(UnsupportedSetting, match=words):
        native_arguments(make_load(**settings))


def test_awq_is_refused_for_a_model_that_it_does_not_read_awq_of():
    with pytest.raises(UnsupportedSetting, match=r"quantization=awq: .* AWQ only for .*llama.*, not for qwen2"):
        native_arguments(of_type("qwen2", quantization="awq", dtype="float16"))


def test_awq_is_not_split_over_devices():
    stored = {"quant_method": "awq"}
    with pytest.raises(UnsupportedSetting, match=r"tensor_parallel=2: .*cannot split AWQ"):
        native_arguments(of_type("llama", quantization="awq", dtype="float16", stored=stored, tensor_parallel=2))


@pytest.mark.parametrize("name", RESERVED)
def test_an_argument_that_is_not_the_users_is_refused_with_what_to_do_instead(name):
    load = make_load(engine_args={name: 2})
    with pytest.raises(UnsupportedSetting) as raised:
        refuse_reserved(adapter, load)
    assert str(raised.value) == f"engine argument {name}: {RESERVED[name]}"


def test_every_argument_that_a_setting_becomes_is_reserved_but_for_the_optimizations():
    loads = (make_load(kv_cache_tokens=9), make_load(kv_memory_fraction=0.5))
    assert {name for load in loads for name in native_arguments(load)} - RESERVED.keys() == {"opt"}


def test_only_what_a_prefix_cache_holds_depends_on_the_settings():
    assert adapter.unreported(make_load()) == UNREPORTED
    assert adapter.unreported(make_load(prefix_caching=True)) == (*UNREPORTED, "cached_tokens")


@pytest.mark.parametrize(
    "words",
    ["InternalError: Check failed: (e == cudaSuccess): CUDA: out of memory", "Insufficient GPU memory error: The ..."],
)
def test_its_words_for_a_full_device_are_known(words):
    assert cause_of(RuntimeError(words), "cuda", adapter.out_of_memory) == "out_of_memory_device"


@dataclass
class Config:
    """An EngineConfig."""

    verbose: bool = True
    max_single_sequence_length: int | None = None
    max_num_sequence: int | None = None
    max_total_sequence_length: int | None = None
    prefill_chunk_size: int | None = None
    prefix_cache_mode: str = "radix"


class Package:
    """The package, its version as in libinfo.py, held by distributions. `made`: what engines were constructed with;
    `model`: the entries of model_config_dicts."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.engines: list[Engine] = []
        self.model: dict[str, Any] = {"quantization": "q0bf16", "sliding_window_size": -1}

    def make_engine(self, *, model, device, model_lib, mode, engine_config, request_stream_callback) -> Engine:
        """SyncMLCEngine's constructor."""
        config, total = engine_config, engine_config.max_total_sequence_length
        self.made.append({"model": model, "device": device, "model_lib": model_lib, "mode": mode, "config": config})
        engine = Engine(
            request_stream_callback,
            longest=config.max_single_sequence_length,
            chunk=config.prefill_chunk_size,
            total=config.max_num_sequence * config.max_single_sequence_length if total is None else total,
            places=config.max_num_sequence,
        )
        engine.model_config_dicts = [self.model]
        self.engines.append(engine)
        return engine


@pytest.fixture
def package(modules, monkeypatch, tmp_path):
    vars(modules["mlc_llm"])["__version__"] = "0.1.dev0"
    info = tmp_path / "mlc_llm_nightly_cu130-0.26.dev7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mlc_llm_nightly_cu130\nVersion: 0.26.dev7\n")
    (info / "top_level.txt").write_text("mlc_llm\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(mlc_llm, "packages_distributions", lambda: {"mlc_llm": ["mlc_llm_nightly_cu130"]})
    made = Package()
    vars(modules["mlc_llm.serve.config"])["EngineConfig"] = Config
    vars(modules["mlc_llm.serve.sync_engine"])["SyncMLCEngine"] = made.make_engine
    return made


def prepared(**settings: Any) -> Load:
    return replace(make_load(**settings), prepared={"model": "/prepared/model", "library": "/prepared/library"})


def submit(session: Any, request: int, prompt: int, output: int) -> None:
    session.submit(session.prepare(Request(request, [7] * prompt, output)))


def test_what_was_prepared_is_what_is_loaded(package):
    adapter.imports(prepared())
    adapter.open(prepared(context_length=1024))
    [made] = package.made
    assert (made["model"], made["model_lib"]) == ("/prepared/model", "/prepared/library/library.so")
    assert (made["device"], made["mode"], made["config"].verbose) == ("cuda", "server", False)


def test_the_version_is_that_of_the_distribution_that_holds_the_package(package, monkeypatch):
    monkeypatch.setattr(mlc_llm, "packages_distributions", packages_distributions)  # reads all lists of files
    info = adapter.open(prepared()).info
    assert info.version == "0.26.dev7"
    assert info.notes == ()
    assert info.stepping == "driven"
    assert info.unreported == UNREPORTED


def test_without_a_distribution_it_is_the_packages_own(package, monkeypatch):
    monkeypatch.setattr(mlc_llm, "packages_distributions", dict)
    assert adapter.open(prepared()).info.version == "0.1.dev0"


def test_the_context_length_stays_the_users(package):
    session = adapter.open(prepared(context_length=1024))
    assert session.info.effective["context_length"] == 1024
    assert session.info.native["max_single_sequence_length"] == 1200
    with pytest.raises(ValueError, match="longer than context_length 1024"):
        submit(session, 0, 1000, 25)
    submit(session, 1, 1000, 24)


def test_the_kv_cache_asked_for_is_what_a_request_has_to_fit_into(package):
    session = adapter.open(prepared(kv_cache_tokens=1024))
    assert session.info.kv_cache_tokens == 1024
    with pytest.raises(ValueError, match="kv_cache_tokens 1024"):
        submit(session, 0, 1020, 2)


def test_a_sliding_window_takes_no_request_for_too_long(package):
    package.model["sliding_window_size"] = 512
    submit(adapter.open(prepared(kv_cache_tokens=1024)), 0, 1020, 2)


@pytest.mark.parametrize(
    ("opt", "graphs"),
    [("O0", False), ("O1", False), ("O2", True), ("O3", True), (NO_GRAPHS, False), ("flashinfer=1;cudagraph=1", True)],
)
def test_whether_there_are_cuda_graphs_is_in_the_optimizations(package, opt, graphs):
    assert adapter.open(prepared(engine_args={"opt": opt})).info.effective["cuda_graphs"] is graphs


def test_a_batch_is_never_larger_than_an_action(package):
    session = adapter.open(prepared(max_batch_size=64, max_tokens_per_step=16))
    assert session.info.effective["max_batch_size"] == 16


def test_the_users_own_argument_wins(package):
    adapter.open(prepared(engine_args={"verbose": True}))
    assert package.made[0]["config"].verbose is True


def test_an_argument_that_the_engine_does_not_have_is_refused(package):
    with pytest.raises(UnsupportedSetting, match=r"MLC-LLM 0\.26\.dev7 has no setting 'prefil_mode'"):
        adapter.open(prepared(engine_args={"prefil_mode": "chunked"}))


def test_an_engine_that_cannot_be_taken_charge_of_is_released(package):
    del package.model["sliding_window_size"]
    with pytest.raises(KeyError):
        adapter.open(prepared())
    assert package.engines[0].resets == 1
