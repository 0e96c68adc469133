"""What the vLLM adapter refuses, or chooses, because vLLM's CPU build has no kernels for the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from innerloop.engines.contract import Load, Probe, UnsupportedSetting
from innerloop.engines.vllm import adapter
from innerloop.engines.vllm.cpu import latent_attention, refuse_without_avx512
from tests.engines.support.loads import make_load

NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}
SET = {**NGRAM, "rejection_sample_method": "synthetic", "synthetic_acceptance_rates": [0.8, 0.6, 0.4]}


def test_a_set_acceptance_of_drafts_is_refused_on_cpus_and_taken_on_gpus():
    on_cpu = replace(make_load("cpu", {"speculative_config": SET}), layer="async")
    with pytest.raises(UnsupportedSetting, match="vLLM's CPU build accepts drafts only according to the model"):
        adapter.arguments(on_cpu, Probe())
    on_gpu = replace(make_load("cuda", {"speculative_config": SET}), layer="async")
    assert adapter.arguments(on_gpu, Probe())["speculative_config"] == SET
    found = replace(make_load("cpu", {"speculative_config": NGRAM}), layer="async")
    assert adapter.arguments(found, Probe())["speculative_config"] == NGRAM


def test_weights_that_a_cpu_has_no_kernels_for_are_refused_before_they_are_read():
    blocks = make_load("cpu", stored={"quant_method": "fp8", "weight_block_size": [128, 128]}, quantization="fp8")
    with pytest.raises(UnsupportedSetting, match="block-wise FP8 weights only for AMX"):
        refuse_without_avx512(blocks, {"avx2", "avx512f"})
    refuse_without_avx512(blocks, {"avx512f", "amx_tile"})
    outputs = make_load("cpu", stored={"quant_method": "compressed-tensors"}, quantization="fp8")
    refuse_without_avx512(outputs, {"avx2"})
    packed = make_load("cpu", stored={"quant_method": "compressed-tensors"}, quantization="compressed-tensors")
    with pytest.raises(UnsupportedSetting, match="4-bit kernels only for AVX-512"):
        refuse_without_avx512(packed, {"avx2"})


def test_latent_attention_in_float32_gets_the_backend_that_can_load_it():
    """On a CPU with AMX, vLLM itself takes AMX_MLA, whose weights cannot be packed in float32."""
    amx, deepseek = {"avx512f", "amx_tile"}, {"kv_lora_rank": 32}

    def load(device: str = "cpu", engine_args: dict[str, Any] | None = None, **settings: Any) -> Load:
        made = make_load(device, engine_args, **settings)
        return replace(made, config={**made.config, **deepseek})

    assert latent_attention(load(dtype="float32"), amx) == {"attention_backend": "CPU_MLA"}
    for other, flags in [
        (load(dtype="bfloat16"), amx),
        (load(dtype="float32"), {"avx512f"}),
        (load(dtype="float32"), set()),
        (load("cuda", dtype="float32"), amx),
        (load(dtype="float32", engine_args={"attention_backend": "AMX_MLA"}), amx),
        (make_load("cpu", dtype="float32"), amx),
    ]:
        assert latent_attention(other, flags) == {}
