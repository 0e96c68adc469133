"""Which attention transformers' continuous batching runs on: PyTorch's SDPA, unless another is asked for."""

from __future__ import annotations

import re
from typing import Any

from innerloop.engines.contract import Load, UnsupportedSetting

SDPA = "sdpa"
EAGER = "paged|eager"
WITHOUT_SDPA = ("Gemma2ForCausalLM", "GptOssForCausalLM")  # whose classes say _supports_sdpa = False
MASKED = (
    "attention is PyTorch's SDPA with one mask over the whole batch, so every position is computed against every "
    "request's context. The cost grows with both; it is not representative of transformers with FlashAttention"
)
EAGERLY = (
    "attention is computed operator by operator with one mask over the whole batch, since this model has no SDPA in "
    "transformers: it is slower than with FlashAttention, and its cost grows with every request's context"
)
NO_CUDNN = "cuDNN's attention is off: it would build a new plan for each context length, that is, at every step"
SOFT_CAP = {"gemma2": 50.0}  # where config.json leaves it out
INDEX_LIMIT = 2**32  # elements of a mask that memory-efficient attention indexed rightly before torch 2.13
FIXED_IN = (2, 13)  # mem_eff_attention/kernel_forward.h: an offset into the mask became 64 bits wide


def refuse_latents(load: Load) -> None:
    """Raises UnsupportedSetting for a model with latent attention (MLA), which the paged cache cannot hold."""
    if (load.config.get("text_config") or load.config).get("kv_lora_rank"):
        raise UnsupportedSetting(
            f"architecture={', '.join(load.config.get('architectures') or ['?'])}: the cache of transformers' "
            "continuous batching holds keys and values of equal size, not latents (MLA)"
        )


def attention_for(load: Load) -> str:
    """The attention that the model is loaded with, unless the user names one: SDPA, or where the model's class has none
    the eager attention of continuous batching.

    Raises:
        UnsupportedSetting: that would not compute what the model means.
    """
    config = load.config.get("text_config") or load.config
    if set(WITHOUT_SDPA).isdisjoint(load.config.get("architectures") or ()):
        return SDPA
    cap = config.get("attn_logit_softcapping", SOFT_CAP.get(str(config.get("model_type"))))
    if cap is not None:
        raise UnsupportedSetting(
            f"attn_logit_softcapping={cap:g}: in transformers' continuous batching, only FlashAttention supports "
            "softcapping; on a GPU, select it with --engine-arg attn_implementation=flash_attention_2"
        )
    return EAGER


def configure_sdpa(torch: Any, device: str, implementation: str) -> tuple[str, ...]:
    """Settles what SDPA runs on, before a model is made; returns what there is to say about it."""
    if implementation != SDPA:
        return (EAGERLY,) if implementation == EAGER else ()
    if device != "cuda":
        return (MASKED,)
    torch.backends.cuda.enable_cudnn_sdp(False)  # preferred for masks on Hopper and Blackwell (sdp_utils.cpp)
    return (MASKED, NO_CUDNN)


def refuse_wide_mask(torch_version: str, rows: int, tokens: int) -> None:
    """Before torch 2.13 a large mask is read at wrong places on CUDA, without an error.

    `rows` are the positions of the largest step, `tokens` those of the KV cache.

    Raises:
        UnsupportedSetting: the mask would be too large.
    """
    numbers = re.match(r"(\d+)\.(\d+)", torch_version)
    if numbers and (int(numbers[1]), int(numbers[2])) < FIXED_IN and rows * (tokens + rows) > INDEX_LIMIT:
        most = max(INDEX_LIMIT // rows - rows, 0)
        raise UnsupportedSetting(
            f"kv_cache_tokens={tokens}: torch {torch_version} computes attention incorrectly when the mask exceeds"
            f" {rows} positions x {most} KV cache tokens; lower kv_cache_tokens or max_tokens_per_step, or use"
            " torch 2.13"
        )
