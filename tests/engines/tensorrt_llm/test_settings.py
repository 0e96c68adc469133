"""What TensorRT-LLM's adapter makes of the settings, refuses of them, and finds in a loaded engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.contract import Load, Probe, UnsupportedSetting
from innerloop.engines.support.device_memory import free_share
from innerloop.engines.support.refusals import OTHER_MODEL, refuse_reserved
from innerloop.engines.tensorrt_llm import adapter
from innerloop.engines.tensorrt_llm.settings import ALONE, UNFOLLOWED, engine_info
from innerloop.engines.worker.main import cause_of
from innerloop.harness.checkpoints.formats import fp8_config
from innerloop.harness.result.suspect import unhonoured
from tests.engines.support.loads import make_load
from tests.engines.tensorrt_llm.double import CONTEXT_LENGTH, PyExecutor
from tests.engines.tensorrt_llm.double_requests import install, llm


@pytest.fixture
def executor_with():
    """executor_with(...): a double, which ends with the test."""
    made = []

    def make(**options: Any) -> PyExecutor:
        made.append(PyExecutor(**options))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown()


def arguments(load: Load) -> dict[str, Any]:
    return adapter.arguments(load, Probe())


def info(executor, **settings):
    load = make_load(**settings)
    return engine_info(executor, "1.2.0", arguments(load), load)


@pytest.mark.parametrize("overlap", [False, True])
def test_what_was_asked_for_is_found_honoured(executor_with, overlap):
    asked: dict[str, Any] = {"max_tokens_per_step": 2048, "kv_cache_tokens": 1270, "chunked_prefill": True}
    found = info(executor_with(overlap=overlap, budget=2048), **asked)
    assert unhonoured(make_load(**asked).settings, found.effective) == []
    assert found.effective["context_length"] == CONTEXT_LENGTH
    assert found.effective["kv_cache_tokens"] == 1280
    assert found.kv_cache_bytes == 1280 * 2 * 32 * 8 * 128 * 2  # keys and values, layers, KV heads, 4096 / 32, bf16
    assert found.effective["async_scheduling"] is overlap
    assert (found.stepping, found.unreported) == ("observed", ())


def test_what_the_engine_made_of_the_settings_is_read_and_not_repeated(executor_with):
    executor = executor_with(overlap=False, budget=512, chunked=False)
    executor.llm_args.enable_chunked_prefill = True  # its model cannot
    executor.model_engine.dtype, executor.max_seq_len = "torch.float16", 1280
    executor.kv_cache_manager.dtype.name = "FP8"
    asked: dict[str, Any] = {"chunked_prefill": True, "context_length": 4096}
    found = info(executor, **asked)
    assert (found.effective["dtype"], found.effective["kv_cache_dtype"]) == ("float16", "fp8")
    assert found.kv_cache_bytes == 1280 * 2 * 32 * 8 * 128  # a byte a number
    told = {reason.detail.partition(":")[0] for reason in unhonoured(make_load(**asked).settings, found.effective)}
    assert told == {"dtype", "context_length", "max_tokens_per_step", "chunked_prefill"}


def test_a_cache_manager_that_counts_no_blocks_leaves_the_caches_size_and_use_unknown(executor_with):
    executor = executor_with(overlap=True)
    stats = executor.kv_cache_manager.get_kv_cache_stats()
    stats.max_num_blocks = stats.tokens_per_block = 0  # KVCacheManagerV2 fills in allocated_bytes only
    found = info(executor)
    assert (found.kv_cache_tokens, found.kv_cache_bytes, found.effective["kv_cache_tokens"]) == (None, None, None)
    assert found.unreported == ("kv_usage",)


def test_weights_that_were_loaded_as_unquantized_are_noticed(executor_with):
    executor, asked = executor_with(overlap=True), {"quantization": "fp8", "stored": fp8_config(128)}
    with pytest.raises(UnsupportedSetting, match="quantization=fp8"):
        info(executor, **asked)
    executor.model_engine.model.model_config.quant_config.quant_algo = "FP8_BLOCK_SCALES"
    assert info(executor, **asked).effective["quantization"] == "fp8_block_scales"


def test_common_settings_become_arguments_of_llm():
    found = arguments(make_load(kv_cache_tokens=1000, chunked_prefill=True, cuda_graphs=False))
    assert (found["max_seq_len"], found["max_batch_size"]) == (4096, 64)
    assert found["max_num_tokens"] == 2048
    assert found["kv_cache_config"] == {"enable_block_reuse": False, "max_tokens": 1024}  # whole blocks of 32
    assert found["enable_chunked_prefill"] is True
    assert found["cuda_graph_config"] is None
    unset = arguments(make_load(kv_memory_fraction=0.8))
    assert not {"cuda_graph_config", "enable_chunked_prefill"} & unset.keys()
    assert unset["kv_cache_config"]["free_gpu_memory_fraction"] == 0.8


def test_a_share_of_the_device_becomes_one_of_what_the_weights_leave_free(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(200))
    load = make_load(kv_memory_fraction=0.9, checkpoint=str(tmp_path))
    assert free_share(load, free=1000, total=1000) == 0.875  # 700 of the 800 that are left, with the weights' 200
    with pytest.raises(UnsupportedSetting, match="kv_memory_fraction"):
        free_share(load, free=250, total=1000)


def test_an_argument_of_its_own_wins():
    assert arguments(make_load(engine_args={"disable_overlap_scheduler": True}))["disable_overlap_scheduler"]


def test_other_fields_of_the_caches_config_are_added_to_what_the_settings_make_of_it():
    given = {"kv_cache_config": {"max_attention_window": [64], "tokens_per_block": 64}}
    found = arguments(make_load(kv_cache_tokens=100, prefix_caching=True, engine_args=given))
    assert found["kv_cache_config"] == {
        "enable_block_reuse": True,
        "max_tokens": 128,  # whole blocks of 64
        "max_attention_window": [64],
        "tokens_per_block": 64,
    }


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        ("dtype", "kv_cache_dtype"),
        ("enable_block_reuse", "prefix_caching"),
        ("max_tokens", "kv_cache_tokens"),
        ("max_gpu_total_bytes", "kv_cache_tokens"),
        ("free_gpu_memory_fraction", "kv_memory_fraction"),
    ],
)
def test_a_field_of_the_caches_config_that_a_setting_becomes_is_refused(field, setting):
    load = make_load(engine_args={"kv_cache_config": {field: 1}})
    with pytest.raises(
        UnsupportedSetting, match=rf"^engine argument kv_cache_config\.{field}: use --set {setting} instead$"
    ):
        arguments(load)


def test_a_caches_config_that_holds_no_fields_is_refused():
    with pytest.raises(UnsupportedSetting, match=r"^engine argument kv_cache_config: give a JSON object"):
        arguments(make_load(engine_args={"kv_cache_config": "fp8"}))


RESERVED = {
    "model_kwargs": OTHER_MODEL,
    "dtype": "use --set dtype instead",
    "tensor_parallel_size": "use --set tensor_parallel instead",
    "max_seq_len": "use --set context_length instead",
    "max_batch_size": "use --set max_batch_size instead",
    "max_num_tokens": "use --set max_tokens_per_step instead",
    "enable_chunked_prefill": "use --set chunked_prefill instead",
    "cuda_graph_config": "use --set cuda_graphs instead",
    "model": "use --model or --weights DIR instead",
    "trust_remote_code": "use --trust-remote-code instead",
    "backend": "the adapter steps the executor of the PyTorch backend",
    "stream_interval": "innerloop needs each token in the step that produced it",
    **dict.fromkeys(
        (
            "pipeline_parallel_size", "context_parallel_size", "moe_cluster_parallel_size", "moe_tensor_parallel_size",
            "moe_expert_parallel_size", "enable_attention_dp", "attention_dp_config", "enable_lm_head_tp_in_adp",
            "pp_partition", "cp_config", "gpus_per_node", "orchestrator_type", "num_postprocess_workers",
        ),
        ALONE,
    ),
    **dict.fromkeys(
        (
            "speculative_config", "decoding_config", "cache_transceiver_config", "kv_connector_config",
            "max_beam_width", "mm_encoder_only",
        ),
        UNFOLLOWED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_reserved_argument_is_refused_with_what_to_do_instead(name):
    with pytest.raises(UnsupportedSetting) as refused:
        refuse_reserved(adapter, make_load(engine_args={name: 1}))
    assert str(refused.value) == f"engine argument {name}: {RESERVED[name]}"


def test_no_other_argument_is_reserved():
    assert set(adapter.reserved) == set(RESERVED)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tensor_parallel": 2}, "tensor_parallel=2: TensorRT-LLM with more than one device runs its executors in "),
        ({"quantization": "awq"}, "quantization=awq: TensorRT-LLM runs quantized checkpoints only as stored"),
        ({"dtype": "float32"}, "dtype=float32: TensorRT-LLM runs float16 or bfloat16; use --set dtype=bfloat16"),
    ],
)
def test_what_it_cannot_honour_is_refused_by_name(settings, words):
    with pytest.raises(UnsupportedSetting, match=f"^{words}"):
        arguments(make_load(**settings))


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
        arguments(make_load(quantization="fp8", stored=stored))


def test_fp8_in_blocks_is_run_in_bfloat16_only():
    stored = fp8_config(128)
    assert arguments(make_load(quantization="fp8", stored=stored))["dtype"] == "bfloat16"
    with pytest.raises(UnsupportedSetting, match=r"quantization=fp8: .* only in bfloat16"):
        arguments(make_load(quantization="fp8", stored=stored, dtype="float16"))


@pytest.mark.parametrize(
    "words",
    [
        "Executor creation failed due to insufficient GPU memory.",
        "[TensorRT-LLM][ERROR] CUDA runtime error in ::cudaMallocAsync(ptr, n, mMemPool->getPool(), mStream): out of "
        "memory (/src/cpp/include/tensorrt_llm/runtime/gpuBuffers.h:121)",
    ],
)
def test_a_full_device_is_told_by_its_words(words):
    assert cause_of(RuntimeError(words), "cuda", adapter.out_of_memory) == "out_of_memory_device"


@pytest.fixture
def opened(monkeypatch, executor_with):
    """opened(executor): opens a load whose LLM holds that double; `modules` are the engine's."""
    modules = install(monkeypatch)
    known = dict.fromkeys([*arguments(make_load()), "disable_overlap_scheduler"])
    vars(modules[".llmapi.llm_args"])["TorchLlmArgs"] = SimpleNamespace(model_fields=known)

    def make(engine: Any, **settings: Any) -> Any:
        vars(modules[""])["LLM"] = lambda **given: engine
        return adapter.open(make_load(**settings))

    return make


def test_a_loaded_engine_says_what_it_is(opened, executor_with):
    session = opened(llm(executor_with(overlap=True, budget=2048)))
    assert (session.info.version, session.info.stepping) == ("1.2.1", "observed")
    assert adapter.unreported(make_load()) == session.info.unreported == ()
    session.close()


def test_an_engine_that_cannot_be_used_is_shut_down(opened, executor_with):
    executor = executor_with(overlap=True)
    with pytest.raises(UnsupportedSetting, match="as unquantized"):
        opened(llm(executor), quantization="fp8", stored=fp8_config(128))
    assert not executor.worker_thread.is_alive()


def test_an_executor_in_another_process_is_refused_and_shut_down(opened):
    ended: list[bool] = []
    proxy = SimpleNamespace(_executor=SimpleNamespace(), shutdown=lambda: ended.append(True))
    with pytest.raises(RuntimeError, match="TLLM_WORKER_USE_SINGLE_PROCESS=1 is not set"):
        opened(proxy)
    assert ended == [True]


def test_an_argument_that_it_does_not_have_is_refused_before_it_loads(opened):
    with pytest.raises(UnsupportedSetting, match=r"has no argument 'disable_overlap_schedule'; did you mean"):
        opened(None, engine_args={"disable_overlap_schedule": True})
