"""What the common settings become in LMDeploy's words, and what it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from innerloop.engines.contract import Probe, UnsupportedSetting
from innerloop.engines.lmdeploy import adapter
from innerloop.engines.lmdeploy.settings import native_arguments
from innerloop.engines.support.device_memory import free_share
from innerloop.engines.support.refusals import refuse_reserved
from innerloop.engines.worker.main import own_cause
from innerloop.harness.checkpoints.formats import quantization_config
from innerloop.harness.profiles import load_model
from tests.engines.support.loads import make_load

PYTORCH: dict[str, Any] = {"engine_args": {"backend": "pytorch"}}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}

CHANNELS = {"quant_method": "compressed-tensors", "format": "float-quantized"}
KIMIS = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"]  # what Kimi K2 Thinking leaves as it is


def packed(bits: int = 4, group_size: int = 128, ignore: list[str] | None = None, **group: Any) -> dict[str, Any]:
    """compressed-tensors' account of packed weights; `group` replaces what the group says beside the numbers."""
    weights = {"num_bits": bits, "type": "int", "group_size": group_size}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "ignore": ignore or ["lm_head"],
        "config_groups": {"group_0": {"weights": weights, **(group or {"format": "pack-quantized"})}},
    }


def test_turbomind_gets_every_common_setting_by_its_own_name():
    found = native_arguments(make_load(tensor_parallel=2, prefix_caching=True, kv_memory_fraction=0.8))
    assert found == {
        "backend": "turbomind",
        "dtype": "bfloat16",
        "tp": 2,
        "session_len": 4096,
        "max_batch_size": 64,
        "enable_prefix_caching": True,
        "cache_max_entry_count": 0.8,
        "max_prefill_token_num": 2048 - 64,  # and a position for every running request
    }


def test_the_pytorch_backend_gets_every_common_setting_by_its_own_name():
    found = native_arguments(make_load(**PYTORCH, cuda_graphs=False, kv_cache_tokens=5000, quantization="fp8"))
    assert found["backend"] == "pytorch"
    assert found["max_prefill_token_num"] == 2048
    assert found["eager_mode"] is True
    assert found["num_gpu_blocks"] == 79 + 1  # of 64 tokens, and the one that it keeps
    assert found["model_format"] == "fp8"


def test_an_engines_own_argument_wins():
    own = make_load(engine_args={"cache_block_seq_len": 128, "async_": 0})
    assert native_arguments(own).items() >= {"cache_block_seq_len": 128, "async_": 0}.items()
    assert adapter.arguments(own, Probe()) == native_arguments(own)
    blocks = make_load(engine_args={"backend": "pytorch", "block_size": 128}, kv_cache_tokens=5000)
    assert native_arguments(blocks)["num_gpu_blocks"] == 40 + 1


def test_a_cache_of_one_block_more_than_the_context_is_the_least():
    assert native_arguments(make_load(**PYTORCH, kv_cache_tokens=4096 + 64))["num_gpu_blocks"] == 65 + 1
    with pytest.raises(UnsupportedSetting, match="kv_cache_tokens=4096: LMDeploy needs at least 4160 for a context"):
        native_arguments(make_load(**PYTORCH, kv_cache_tokens=4096))


def test_a_sliding_window_needs_no_more_cache_than_itself():
    load = make_load(**PYTORCH, kv_cache_tokens=1024)
    windowed = dataclasses.replace(load, config={**load.config, "sliding_window": 512})
    assert native_arguments(windowed)["num_gpu_blocks"] == 16 + 1


def test_a_stored_quantization_is_left_to_the_engine():
    for stored in (AWQ, GPTQ, FP8):
        method = stored["quant_method"]
        found = native_arguments(make_load(stored=stored, quantization=method, dtype="float16"))
        assert "model_format" not in found


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("dtype", {"dtype": "float32"}, "bfloat16 or float16"),
        ("dtype", {**PYTORCH, "stored": AWQ, "quantization": "awq"}, "AWQ weights only in float16"),
        ("chunked_prefill", {"chunked_prefill": False}, "always splits"),
        ("cuda_graphs", {"cuda_graphs": True}, "backend=pytorch"),
        ("kv_cache_tokens", {"kv_cache_tokens": 9}, "kv_memory_fraction"),
        ("max_tokens_per_step", {"max_tokens_per_step": 64}, "max_batch_size"),
        ("quantization", {"quantization": "fp8"}, "as stored"),
        ("quantization", {"quantization": "awq", "stored": {**AWQ, "version": "gemv"}}, "gemm"),
        ("quantization", {"quantization": "awq", "stored": {**AWQ, "group_size": 64}}, "group_size 128"),
        ("quantization", {"quantization": "gptq", "stored": {**GPTQ, "sym": False}}, "symmetric"),
        ("quantization", {"quantization": "gptq", "stored": {**GPTQ, "desc_act": True}}, "activation order"),
        ("quantization", {**PYTORCH, "quantization": "gptq", "stored": GPTQ}, "TurboMind does"),
        ("quantization", {"quantization": "fp8", "stored": {**FP8, "weight_block_size": None}}, "128 x 128"),
        ("quantization", {**PYTORCH, "quantization": "fp8", "stored": CHANNELS}, "pack-quantized"),
        ("quantization", {"quantization": "compressed-tensors", "stored": packed(bits=8)}, "only 4-bit"),
        ("quantization", {"quantization": "compressed-tensors", "stored": packed(group_size=64)}, "32 or 128"),
        (
            "quantization",
            {"quantization": "compressed-tensors", "stored": packed(targets=["Linear"])},
            "group_0.format",
        ),
        ("quantization", {**PYTORCH, "quantization": "compressed-tensors", "stored": packed()}, "only in experts"),
        (
            "quantization",
            {**PYTORCH, "quantization": "compressed-tensors", "stored": packed(group_size=32)},
            "TurboMind supports them in all layers",
        ),
    ],
)
def test_what_lmdeploy_cannot_honour_is_refused_by_name(name, given, why):
    with pytest.raises(UnsupportedSetting, match=f"^{name}=.*{why}"):
        native_arguments(make_load(**given))


@pytest.mark.parametrize(
    "given", [{"stored": packed()}, {"stored": packed(group_size=32)}, {**PYTORCH, "stored": packed(4, 32, KIMIS)}]
)
def test_packed_weights_run_on_turbomind_and_as_experts_on_the_pytorch_backend(given):
    native_arguments(make_load(quantization="compressed-tensors", **given))


@pytest.mark.parametrize("model", ["llama-tiny-w4a16", "llama3.3-70b-w4a16"])
def test_packed_weights_as_innerloop_writes_them_are_taken_by_turbomind_alone(model):
    stored = quantization_config(load_model(model))
    native_arguments(make_load(quantization="compressed-tensors", stored=stored))
    with pytest.raises(UnsupportedSetting, match="only in experts"):
        native_arguments(make_load(**PYTORCH, quantization="compressed-tensors", stored=stored))


@pytest.mark.parametrize("ask", [native_arguments, adapter.unreported])
def test_a_backend_that_there_is_not_is_refused(ask):
    with pytest.raises(UnsupportedSetting, match="turbomind and pytorch"):
        ask(make_load(engine_args={"backend": "triton"}))


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("tp", "use --set tensor_parallel instead"),
        ("session_len", "use --set context_length instead"),
        ("num_gpu_blocks", "use --set kv_cache_tokens instead"),
        ("cache_max_entry_count", "use --set kv_memory_fraction instead"),
        ("eager_mode", "use --set cuda_graphs instead"),
        ("model_format", "use --set quantization instead"),
        ("dp", "the adapter runs one replica, split only by --set tensor_parallel"),
        ("devices", "the adapter runs one replica, split only by --set tensor_parallel"),
        ("role", "the adapter runs one engine that prefills and decodes"),
        ("kv_transfer_config", "the adapter runs one engine that prefills and decodes"),
        ("enable_mp_engine", "the adapter can observe steps only if the engine runs in the worker"),
        ("dllm_block_length", "the adapter cannot track how it changes a step"),
        ("empty_init", "the adapter loads the weights once, before the engine starts"),
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
    kinds = [
        {"kv_memory_fraction": 0.8},
        {**PYTORCH, "kv_cache_tokens": 9000, "cuda_graphs": True, "quantization": "fp8"},
    ]
    for given in kinds:
        assert native_arguments(make_load(**given)).keys() - adapter.reserved.keys() == {"backend"}


def test_a_full_device_is_known_by_the_engines_words():
    messages = [
        "TurboMind ended request 3 with OUT_OF_MEMORY (status 11)",
        "No enough gpu memory for kv cache.",
        "No enough gpu memory for runtime.",
    ]
    for message in messages:
        assert own_cause(RuntimeError(message), "cuda", adapter.out_of_memory) == "out_of_memory_device"


def test_the_cache_fills_with_the_weights_the_share_of_the_device_that_was_asked_for(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(bytes(200))
    load = make_load(checkpoint=str(tmp_path), kv_memory_fraction=0.9)
    share = free_share(load, free=950, total=1000)  # 50 are taken already; the weights leave 550
    assert 50 + 400 + share * 550 == pytest.approx(900, abs=0.1)
    halved = free_share(make_load(checkpoint=str(tmp_path), kv_memory_fraction=0.9, tensor_parallel=2), 950, 1000)
    assert 50 + 200 + halved * 750 == pytest.approx(900, abs=0.1)


def test_weights_that_fill_the_share_alone_are_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(bytes(800))
    with pytest.raises(UnsupportedSetting, match="kv_memory_fraction="):
        free_share(make_load(checkpoint=str(tmp_path), kv_memory_fraction=0.5), free=950, total=1000)


def test_a_share_that_rounds_to_nothing_is_refused_and_none_rounds_to_all(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(bytes(1))
    load = make_load(checkpoint=str(tmp_path), kv_memory_fraction=0.5)
    with pytest.raises(UnsupportedSetting, match="kv_memory_fraction="):
        free_share(load, free=500_011, total=1_000_000)  # the weights leave 500010 of 500000 that stay unused
    nearly = make_load(checkpoint=str(tmp_path), kv_memory_fraction=0.99999)
    assert free_share(nearly, free=1_000_000, total=1_000_000) == 0.9999
