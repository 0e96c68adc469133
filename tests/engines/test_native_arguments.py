"""How the common settings become each engine's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from innerloop.engines import torch as torch_adapter
from innerloop.engines import vllm as vllm_adapter
from innerloop.engines.adapters import load_adapter
from innerloop.engines.contract import Probe, StepReport, UnsupportedSetting
from innerloop.engines.support.refusals import refuse_reserved
from tests.engines.support.loads import make_load


def test_vllm_gets_every_common_setting_by_its_own_name():
    found = vllm_adapter.native_arguments(make_load(tensor_parallel=2, chunked_prefill=False, prefix_caching=True))
    assert found["dtype"] == "bfloat16"
    assert found["max_model_len"] == 4096
    assert found["max_num_seqs"] == 64
    assert found["max_num_batched_tokens"] == 2048
    assert found["tensor_parallel_size"] == 2
    assert found["enable_chunked_prefill"] is False
    assert found["enable_prefix_caching"] is True
    assert found["seed"] == 3


def test_vllm_takes_the_kv_cache_as_bytes_of_each_device():
    token = 2 * 32 * 8 * 128 * 2  # keys and values, layers, KV heads, 4096 / 32, bf16
    assert vllm_adapter.native_arguments(make_load(kv_cache_tokens=1000))["kv_cache_memory_bytes"] == 1000 * token
    halved = vllm_adapter.native_arguments(make_load(kv_cache_tokens=1000, tensor_parallel=2))
    assert halved["kv_cache_memory_bytes"] == 1000 * token // 2
    share = vllm_adapter.native_arguments(make_load(kv_memory_fraction=0.8))
    assert share["gpu_memory_utilization"] == 0.8
    assert "kv_cache_memory_bytes" not in share


def test_vllm_finds_a_stored_quantization_by_itself():
    assert (
        vllm_adapter.native_arguments(make_load(quantization="awq", stored={"quant_method": "awq"}))["quantization"]
        is None
    )
    assert vllm_adapter.native_arguments(make_load(quantization="fp8"))["quantization"] == "fp8"


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("hf_overrides", "another model than the one in the result; use --model-arg, or --weights DIR"),
        ("hf_config_path", "another model than the one in the result"),
        ("max_num_active_seqs", "use --set max_batch_size instead"),
        ("max_num_scheduled_tokens", "use --set max_tokens_per_step instead"),
        ("device_ids", "choose the GPUs with CUDA_VISIBLE_DEVICES instead"),
        ("stream_interval", "innerloop needs each token in the step that produced it"),
    ],
)
def test_vllm_takes_no_second_name_of_a_setting_and_no_other_model(name, instead):
    """With one layer of eight by `hf_overrides` a run was 15 times as fast and said nothing; with one active sequence
    the result said 256."""
    with pytest.raises(UnsupportedSetting, match=f"^engine argument {name}: .*{instead}"):
        refuse_reserved(load_adapter("vllm", None), make_load(engine_args={name: 1}))


@pytest.mark.parametrize("value", [0, -1, "x", [1], 1.5, True, None])
@pytest.mark.parametrize(
    ("engine", "argument", "field"),
    [
        ("torch", "page_size", None),
        ("lmdeploy", "block_size", None),
        ("vllm", "data_parallel_size", None),
        ("vllm", "pipeline_parallel_size", None),
        ("vllm", "prefill_context_parallel_size", None),
        ("tensorrt_llm", "kv_cache_config", "tokens_per_block"),
    ],
)
def test_what_an_adapter_computes_with_is_a_whole_number(engine, argument, field, value):
    given = {
        argument: value if field is None else {field: value},
        **({"backend": "pytorch"} if engine == "lmdeploy" else {}),
    }
    load = replace(make_load(engine_args=given, kv_cache_tokens=9000), layer="async" if engine == "vllm" else "core")
    name = argument if field is None else f"{argument}.{field}"
    with pytest.raises(UnsupportedSetting) as refused:
        load_adapter(engine, None).arguments(load, Probe())
    assert str(refused.value) == f"engine argument {name}={value}: give a whole number of at least 1"


def test_optimizations_of_mlc_llm_are_a_text():
    with pytest.raises(UnsupportedSetting, match=r"^engine argument opt=5: give a level"):
        load_adapter("mlc_llm", None).arguments(make_load(engine_args={"opt": 5}), Probe())


@pytest.mark.parametrize(
    ("engine", "name"),
    [("sglang", "json_model_override_args"), ("lmdeploy", "hf_overrides"), ("tensorrt_llm", "model_kwargs")],
)
def test_no_engine_takes_another_model_by_an_argument(engine, name):
    with pytest.raises(UnsupportedSetting, match="another model than the one in the result"):
        refuse_reserved(load_adapter(engine, None), make_load(engine_args={name: {}}))


def test_what_is_not_set_is_the_engines_own_choice():
    found = vllm_adapter.native_arguments(make_load())
    assert not {"enable_chunked_prefill", "enforce_eager", "gpu_memory_utilization"} & found.keys()
    assert (
        not {"use_cuda_graph", "num_blocks", "max_memory_percent"} & torch_adapter.native_arguments(make_load()).keys()
    )


def test_an_engines_own_argument_is_added_and_wins_over_what_the_adapter_chooses():
    assert vllm_adapter.native_arguments(make_load(engine_args={"block_size": 32}))["block_size"] == 32
    assert (
        vllm_adapter.native_arguments(make_load(engine_args={"disable_log_stats": False}))["disable_log_stats"] is False
    )
    assert torch_adapter.native_arguments(make_load(engine_args={"page_size": 64}))["page_size"] == 64


def test_torch_gets_every_common_setting_by_its_own_name():
    found = torch_adapter.native_arguments(make_load(kv_cache_tokens=1000, prefix_caching=True, cuda_graphs=True))
    assert found["max_requests_per_batch"] == 64
    assert found["max_batch_tokens"] == 2048
    assert found["num_blocks"] == 4  # of 256 tokens
    assert found["allow_block_sharing"] is True
    assert found["use_cuda_graph"] is True
    assert found["use_async_batching"] is False


@pytest.mark.parametrize(
    ("adapter", "settings"),
    [
        (vllm_adapter, {"device": "cpu", "cuda_graphs": True}),
        (vllm_adapter, {"device": "cpu", "quantization": "fp8"}),
        (torch_adapter, {"device": "cpu", "cuda_graphs": True}),
        (torch_adapter, {"quantization": "awq"}),
        (torch_adapter, {"tensor_parallel": 2}),
        (torch_adapter, {"chunked_prefill": False}),
    ],
)
def test_what_an_engine_cannot_honour_is_refused_by_name(adapter, settings):
    name = next(name for name in settings if name != "device")
    with pytest.raises(UnsupportedSetting, match=name):
        adapter.native_arguments(make_load(**settings))


@pytest.mark.parametrize("layer", ["engine", "async", "http"])
def test_vllms_layers_differ_by_their_tokenizer_only(layer):
    core, own = make_load(), replace(make_load(), layer=layer)
    assert vllm_adapter.native_arguments(own) == {**vllm_adapter.native_arguments(core), "skip_tokenizer_init": False}


def test_what_vllm_cannot_report_depends_on_the_layer_and_on_where_its_model_runs():
    unreported = vllm_adapter.adapter.unreported
    assert unreported(make_load()) == ()
    assert unreported(make_load(tensor_parallel=2)) == ("prepare_ns",)
    assert "running" in unreported(replace(make_load(), layer="async"))
    assert "wait_ns" not in unreported(replace(make_load(), layer="http"))


@pytest.mark.parametrize("name", ["vllm", "torch", "lmdeploy", "sglang", "tensorrt_llm", "mlc_llm", "openvino", "tgi"])
def test_no_engine_argument_walks_around_a_common_setting_or_a_refusal(name):
    adapter = load_adapter(name)
    assert adapter.reserved
    for argument, why in adapter.reserved.items():
        with pytest.raises(UnsupportedSetting, match=f"engine argument {argument}: "):
            refuse_reserved(adapter, make_load(engine_args={argument: 1}))
        assert why
    refuse_reserved(adapter, make_load(engine_args={"anything_else": 1}))


@pytest.mark.parametrize("name", ["vllm", "torch", "lmdeploy", "sglang", "tensorrt_llm", "mlc_llm", "openvino", "tgi"])
def test_what_is_said_to_be_unreported_are_fields_of_a_report(name):
    fields = set(StepReport.__dataclass_fields__)
    assert set(load_adapter(name).unreported(make_load())) < fields - {"start_ns", "end_ns", "tokens", "finished"}


def test_4_bit_weights_and_a_kv_cache_of_fp8_need_avx512_on_an_x86_cpu():
    load = make_load(device="cpu", quantization="awq", stored={"quant_method": "awq"})
    refuse = vllm_adapter.refuse_without_avx512
    with pytest.raises(UnsupportedSetting, match="AVX-512"):
        refuse(load, {"avx2"})
    refuse(load, {"avx2", "avx512f"})
    refuse(load, None)  # not an x86 CPU
    refuse(make_load(device="cpu"), {"avx2"})
    refuse(make_load(quantization="awq"), {"avx2"})
    fp8 = make_load(device="cpu", kv_cache_dtype="fp8")
    with pytest.raises(UnsupportedSetting, match=r"kv_cache_dtype=fp8: .*only with AVX-512 or AMX"):
        refuse(fp8, {"avx2"})
    refuse(fp8, {"avx2", "amx_tile"})
    refuse(fp8, {"avx2", "avx512f"})


FP8_CACHE: dict[str, dict[str, object]] = {
    "vllm": {"kv_cache_dtype": "fp8"},
    "sglang": {"kv_cache_dtype": "fp8_e4m3"},
    "tgi": {"kv_cache_dtype": "fp8_e4m3fn"},
    "tensorrt_llm": {"kv_cache_config": {"enable_block_reuse": False, "dtype": "fp8"}},
}


@pytest.mark.parametrize("name", sorted(FP8_CACHE))
def test_a_kv_cache_of_fp8_is_asked_for_in_the_engines_own_word(name):
    found = load_adapter(name).arguments(make_load(kv_cache_dtype="fp8"), Probe())
    assert {word: found[word] for word in FP8_CACHE[name]} == FP8_CACHE[name]
    assert "fp8" not in str(load_adapter(name).arguments(make_load(), Probe()))


def test_lmdeploy_has_a_kv_cache_of_fp8_on_its_pytorch_backend_only():
    adapter = load_adapter("lmdeploy")
    load = make_load(kv_cache_dtype="fp8", engine_args={"backend": "pytorch"})
    assert adapter.arguments(load, Probe())["quant_policy"] == 16
    with pytest.raises(UnsupportedSetting, match=r"kv_cache_dtype=fp8: TurboMind has no FP8 KV cache"):
        adapter.arguments(make_load(kv_cache_dtype="fp8"), Probe())


@pytest.mark.parametrize(
    ("name", "device"), [("torch", "cuda"), ("mlc_llm", "cuda"), ("tgi", "cpu"), ("sglang", "cpu")]
)
def test_an_engine_without_a_kv_cache_of_fp8_refuses_it(name, device):
    with pytest.raises(UnsupportedSetting, match=r"kv_cache_dtype=fp8"):
        load_adapter(name).arguments(make_load(device, kv_cache_dtype="fp8"), Probe())


def test_vllms_kv_cache_has_as_many_tokens_in_fp8_as_were_asked_for():
    plain, fp8 = (
        load_adapter("vllm").arguments(make_load(kv_cache_tokens=1000, kv_cache_dtype=kept), Probe())
        for kept in ("auto", "fp8")
    )
    assert plain["kv_cache_memory_bytes"] == 1000 * 2 * 32 * 8 * 128 * 2
    assert fp8["kv_cache_memory_bytes"] == 1000 * 2 * 32 * 8 * 128


@pytest.mark.parametrize("name", ["data_parallel_size", "pipeline_parallel_size", "prefill_context_parallel_size"])
def test_vllm_takes_what_changes_a_step_only_where_no_step_is_watched(name):
    load = make_load(engine_args={name: 2})
    for layer in ("core", "engine"):
        with pytest.raises(UnsupportedSetting, match=rf"engine argument {name}: .*the async and http layers"):
            load_adapter("vllm").arguments(replace(load, layer=layer), Probe())
    for layer in ("async", "http"):
        assert load_adapter("vllm").arguments(replace(load, layer=layer), Probe())[name] == 2
        refuse_reserved(load_adapter("vllm"), replace(load, layer=layer))
