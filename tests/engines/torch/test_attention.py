from __future__ import annotations

from types import SimpleNamespace

import pytest

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.torch import native_arguments
from innerloop.engines.torch.attention import EAGERLY, MASKED, NO_CUDNN, configure_sdpa, refuse_wide_mask
from tests.engines.support.loads import make_load


@pytest.mark.parametrize(
    ("device", "implementation", "notes", "switched"),
    [
        ("cuda", "sdpa", (MASKED, NO_CUDNN), [False]),
        ("cpu", "sdpa", (MASKED,), []),
        ("cuda", "flash_attention_2", (), []),
        ("cpu", "paged|eager", (EAGERLY,), []),
    ],
)
def test_cudnn_is_switched_off_where_it_would_plan_in_every_step(device, implementation, notes, switched):
    asked: list[bool] = []
    torch = SimpleNamespace(backends=SimpleNamespace(cuda=SimpleNamespace(enable_cudnn_sdp=asked.append)))
    assert configure_sdpa(torch, device, implementation) == notes
    assert asked == switched


def test_a_mask_that_an_older_torch_reads_wrongly_is_refused_with_what_fits():
    with pytest.raises(UnsupportedSetting, match="exceeds 8192 positions x 516096 KV cache tokens"):
        refuse_wide_mask("2.11.0+cu130", 8192, 516_097)
    refuse_wide_mask("2.11.0+cu130", 8192, 516_096)
    refuse_wide_mask("2.13.0", 8192, 10**6)
    refuse_wide_mask("2.14.0a0", 8192, 10**6)


def of(architecture: str, engine_args: dict[str, str] | None = None, **config: object) -> str:
    load = make_load("cpu", engine_args)
    load.config.update(architectures=[architecture], **config)
    return str(native_arguments(load)["attn_implementation"])


def test_attention_is_sdpa_and_eager_where_the_models_class_has_none():
    assert of("LlamaForCausalLM") == "sdpa"
    assert of("GptOssForCausalLM", model_type="gpt_oss") == "paged|eager"
    assert of("Gemma2ForCausalLM", model_type="gemma2", attn_logit_softcapping=None) == "paged|eager"
    assert of("Gemma2ForCausalLM", {"attn_implementation": "flash_attention_2"}) == "flash_attention_2"


@pytest.mark.parametrize("config", [{"model_type": "gemma2"}, {"attn_logit_softcapping": 30.0}])
def test_scores_that_nothing_would_cap_are_refused(config):
    with pytest.raises(
        UnsupportedSetting, match=r"attn_logit_softcapping=(50|30): .* only FlashAttention supports softcapping"
    ):
        of("Gemma2ForCausalLM", **config)


@pytest.mark.parametrize("engine_args", [None, {"attn_implementation": "paged|eager"}])
def test_latents_are_refused_whatever_the_attention(engine_args):
    with pytest.raises(UnsupportedSetting, match="architecture=DeepseekV3ForCausalLM: the cache of transformers'"):
        of("DeepseekV3ForCausalLM", engine_args, kv_lora_rank=512)
