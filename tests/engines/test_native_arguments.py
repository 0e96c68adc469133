"""How the common settings become each engine's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from innerloop.engines import torch as torch_adapter
from innerloop.engines import vllm as vllm_adapter
from innerloop.engines.adapters import load_adapter
from innerloop.engines.contract import StepReport, UnsupportedSetting
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


def test_4_bit_weights_need_avx512_on_an_x86_cpu():
    load = make_load(device="cpu", quantization="awq", stored={"quant_method": "awq"})
    refuse = vllm_adapter.refuse_4_bit_without_avx512
    with pytest.raises(UnsupportedSetting, match="AVX-512 only"):
        refuse(load, {"avx2"})
    refuse(load, {"avx2", "avx512f"})
    refuse(load, None)  # not an x86 CPU
    refuse(make_load(device="cpu"), {"avx2"})
    refuse(make_load(quantization="awq"), {"avx2"})
