"""What the common settings become in SGLang's words, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from innerloop.engines.contract import Probe, UnsupportedSetting
from innerloop.engines.sglang import adapter
from innerloop.engines.sglang.settings import CONTEXT_MARGIN, native_arguments
from innerloop.engines.support.refusals import refuse_model, refuse_reserved
from tests.engines.support.loads import make_load


def test_sglang_gets_every_common_setting_by_its_own_name():
    found = native_arguments(make_load(prefix_caching=True, kv_memory_fraction=0.8, cuda_graphs=False))
    assert found["dtype"] == "bfloat16"
    assert found["context_length"] == 4096 + CONTEXT_MARGIN
    assert found["max_running_requests"] == 64
    assert found["chunked_prefill_size"] == found["max_prefill_tokens"] == 2048
    assert found["disable_radix_cache"] is False
    assert found["mem_fraction_static"] == 0.8
    assert found["cuda_graph_backend_decode"] == found["cuda_graph_backend_prefill"] == "disabled"
    assert found["random_seed"] == 3
    assert native_arguments(make_load(kv_cache_tokens=99))["max_total_tokens"] == 99


def test_whole_prompts_need_steps_that_hold_them():
    assert native_arguments(make_load(chunked_prefill=False, max_tokens_per_step=4096))["chunked_prefill_size"] == -1
    with pytest.raises(UnsupportedSetting, match=r"chunked_prefill=false: max_tokens_per_step [(]2048[)] is less"):
        native_arguments(make_load(chunked_prefill=False))


def test_a_stored_quantization_is_left_to_the_engine():
    stored = {"quant_method": "awq"}
    assert native_arguments(make_load(stored=stored, quantization="awq"))["quantization"] is None
    assert native_arguments(make_load(quantization="fp8"))["quantization"] == "fp8"


def test_a_llamas_fp8_in_blocks_is_refused_since_its_scales_would_be_lost():
    blocks = make_load(quantization="fp8", stored={"quant_method": "fp8", "weight_block_size": [128, 128]})
    blocks.config["architectures"] = ["LlamaForCausalLM"]
    with pytest.raises(UnsupportedSetting, match=r"^quantization=fp8: SGLang drops the scales"):
        native_arguments(blocks)
    blocks.config["architectures"] = ["DeepseekV3ForCausalLM"]
    assert native_arguments(blocks)["quantization"] is None


@pytest.mark.parametrize("given", [{"dtype": "float32"}, {"tensor_parallel": 2}])
def test_what_sglang_cannot_honour_is_refused_by_name(given):
    with pytest.raises(UnsupportedSetting, match=f"^{next(iter(given))}="):
        native_arguments(make_load(**given))


def test_on_a_cpu_it_computes_in_float32_and_has_no_graphs_and_takes_llamas_only():
    assert native_arguments(make_load("cpu", dtype="float32", cuda_graphs=False))["dtype"] == "float32"
    with pytest.raises(UnsupportedSetting, match=r"^cuda_graphs=true: SGLang has no CUDA graphs on a CPU"):
        native_arguments(make_load("cpu", cuda_graphs=True))
    load = make_load("cpu")
    load.config.update(architectures=["DeepseekV3ForCausalLM"])
    with pytest.raises(UnsupportedSetting, match=r"^architecture=DeepseekV3ForCausalLM: SGLang on cpu runs only L"):
        refuse_model(adapter, load)
    refuse_model(adapter, replace(load, device="cuda"))


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("tp_size", "use --set tensor_parallel instead"),
        ("context_length", "use --set context_length instead"),
        ("max_total_tokens", "use --set kv_cache_tokens instead"),
        ("cuda_graph_backend_decode", "use --set cuda_graphs instead"),
        ("model_path", "use --model or --weights DIR instead"),
        ("pp_size", "this layer steps one scheduler, which uses one device"),
        ("dp_size", "this layer steps one scheduler, which uses one device"),
        ("base_gpu_id", "choose the GPUs with CUDA_VISIBLE_DEVICES instead"),
        ("disaggregation_mode", "this layer steps one scheduler, which prefills and decodes"),
        ("speculative_algorithm", "the adapter cannot track how it changes a step"),
        ("dllm_algorithm", "the adapter cannot track how it changes a step"),
        ("stream_interval", "innerloop needs each token in the step that produced it"),
    ],
)
def test_what_is_reserved_is_refused_with_what_to_do_instead(name, instead):
    with pytest.raises(UnsupportedSetting, match=f"^engine argument {name}: {instead}$"):
        refuse_reserved(adapter, make_load(engine_args={name: 1}))


def test_every_reserved_argument_is_refused_in_its_own_words():
    for name, why in adapter.reserved.items():
        with pytest.raises(UnsupportedSetting) as refused:
            refuse_reserved(adapter, make_load(engine_args={name: 1}))
        assert str(refused.value) == f"engine argument {name}: {why}"


def test_whatever_a_setting_becomes_is_reserved():
    for given in ({"kv_memory_fraction": 0.8, "cuda_graphs": False}, {"kv_cache_tokens": 9, "cuda_graphs": True}):
        found = adapter.arguments(make_load(**given), Probe())
        assert found.keys() - adapter.reserved.keys() == {"skip_tokenizer_init", "log_level"}
