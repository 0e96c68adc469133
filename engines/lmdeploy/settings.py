"""LMDeploy's settings: the common ones in its own words, what it cannot honour, and what it made of them."""

from __future__ import annotations

from typing import Any

from innerloop.engines.contract import Load, UnsupportedSetting
from innerloop.engines.support.refusals import OTHER_MODEL, by_setting, refuse, refuse_architecture, whole_argument
from innerloop.engines.support.shapes import keeps_fp8

TURBOMIND, PYTORCH = "turbomind", "pytorch"
BACKENDS = (TURBOMIND, PYTORCH)
BLOCK_TOKENS = 64  # the pytorch backend's default
FP8_BLOCK = [128, 128]
OTHER = "has no such model; use --engine-arg backend=pytorch"
ON_PYTORCH = dict.fromkeys(  # not among TurboMind's SUPPORTED_ARCHS (lmdeploy/turbomind/supported_models.py)
    (
        "MistralForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM", "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM",
    ),
    OTHER,
)  # fmt: skip
FP8_POLICY = 16  # QuantPolicy.FP8 (lmdeploy/messages.py)
RESERVED = {
    **by_setting(
        dtype="dtype",
        model_format="quantization",
        tp="tensor_parallel",
        session_len="context_length",
        max_batch_size="max_batch_size",
        max_prefill_token_num="max_tokens_per_step",
        num_gpu_blocks="kv_cache_tokens",
        cache_max_entry_count="kv_memory_fraction",
        quant_policy="kv_cache_dtype",
        enable_prefix_caching="prefix_caching",
        eager_mode="cuda_graphs",
    ),
    "hf_overrides": OTHER_MODEL,
    **dict.fromkeys(
        (
            "dp", "dp_rank", "cp", "ep", "device_num", "devices", "nnodes", "node_rank", "dist_init_addr",
            "attn_tp_size", "attn_cp_size", "attn_dp_size", "mlp_tp_size", "mlp_dp_size", "moe_tp_size",
            "outer_dp_size",
        ),
        "the adapter runs one replica, split only by --set tensor_parallel",
    ),
    **dict.fromkeys(
        ("role", "migration_backend", "kv_transfer_config"), "the adapter runs one engine that prefills and decodes"
    ),
    **dict.fromkeys(
        ("enable_mp_engine", "mp_engine_backend"), "the adapter can observe steps only if the engine runs in the worker"
    ),
    **dict.fromkeys(
        ("dllm_block_length", "dllm_unmasking_strategy", "dllm_denoising_steps", "dllm_confidence_threshold"),
        "the adapter cannot track how it changes a step",
    ),
    "empty_init": "the adapter loads the weights once, before the engine starts",
}  # fmt: skip


def backend_of(load: Load) -> str:
    """The backend that the load names, else TurboMind.

    Raises:
        UnsupportedSetting: there is no such backend.
    """
    backend: str = load.engine_args.get("backend", TURBOMIND)
    if backend not in BACKENDS:
        raise UnsupportedSetting(f"backend={backend}: LMDeploy's backends are {' and '.join(BACKENDS)}")
    return backend


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of the backend's engine config, with the backend's own name among them, then the
    user's own `engine_args`, which win."""
    s, backend = load.settings, backend_of(load)
    refuse_settings(load, backend)
    arguments: dict[str, Any] = {
        "backend": backend,
        "dtype": s["dtype"],
        "tp": s["tensor_parallel"],
        "session_len": s["context_length"],
        "max_batch_size": s["max_batch_size"],
        "enable_prefix_caching": s["prefix_caching"],
    }
    if s["kv_memory_fraction"] is not None:
        arguments["cache_max_entry_count"] = s["kv_memory_fraction"]  # what the weights take is known on the device
    if backend == TURBOMIND:
        # Its forward pass holds max_prefill_token_num positions and one more for every running request.
        arguments["max_prefill_token_num"] = s["max_tokens_per_step"] - s["max_batch_size"]
    else:
        arguments["max_prefill_token_num"] = s["max_tokens_per_step"]
        if keeps_fp8(s):
            arguments["quant_policy"] = FP8_POLICY
        if s["cuda_graphs"] is not None:
            arguments["eager_mode"] = not s["cuda_graphs"]
        if s["kv_cache_tokens"] is not None:
            arguments["num_gpu_blocks"] = -(-s["kv_cache_tokens"] // block_tokens(load)) + 1  # one is kept for padding
        if s["quantization"] == "fp8" and "quantization_config" not in load.config:
            arguments["model_format"] = "fp8"
    return {**arguments, **load.engine_args}


def unhonoured(arguments: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Why the engine that was loaded would not do what was asked; None if it would."""
    dtype, context = arguments["dtype"], arguments["session_len"]
    if found["dtype"] != dtype != "auto":
        return f"dtype={dtype}: LMDeploy runs this model in {found['dtype']} here"
    if context is not None and found["context_length"] < context:  # it would cut outputs there; pytorch backend only
        needed = context + found["kv_block_tokens"]
        return (
            f"context_length={context}: a sequence of that length needs {needed} tokens of KV cache; the cache has"
            f" {found['kv_cache_tokens']}, enough for sequences of up to {found['context_length']} tokens"
        )
    return None


def block_tokens(load: Load) -> int:
    """Tokens in a block of the PyTorch backend's KV cache.

    Raises:
        UnsupportedSetting: the user's own size is none.
    """
    return whole_argument(load.engine_args, "block_size", BLOCK_TOKENS)


def refuse_settings(load: Load, backend: str) -> None:
    """Raises UnsupportedSetting for the first setting that the backend cannot honour."""
    s, turbomind = load.settings, backend == TURBOMIND
    if turbomind:
        refuse_architecture(load, "TurboMind", ON_PYTORCH)
    stored = load.config.get("quantization_config") or {}
    stored_awq = stored.get("quant_method") == "awq"
    refuse(
        "LMDeploy", s, [("dtype", s["dtype"] == "float32", "computes in bfloat16 or float16; use --set dtype=bfloat16")]
    )
    if not turbomind:
        awq_in_another = stored_awq and s["dtype"] != "float16"
        refuse("LMDeploy's pytorch backend", s, [("dtype", awq_in_another, "runs AWQ weights only in float16")])
    if s["quantization"] is not None:
        refuse_quantization(s, stored, turbomind)
    refuse(
        "LMDeploy",
        s,
        (
            ("chunked_prefill", s["chunked_prefill"] is False, "always splits prompts that exceed max_tokens_per_step"),
            (
                "max_tokens_per_step",
                s["max_tokens_per_step"] <= s["max_batch_size"],
                "needs it to exceed max_batch_size, because each running request takes one position of a step",
            ),
        ),
    )
    if turbomind:
        refuse(
            "TurboMind",
            s,
            (
                (
                    "cuda_graphs",
                    bool(s["cuda_graphs"]),
                    "has no CUDA graphs; leave it unset, or choose backend=pytorch",
                ),
                ("kv_cache_dtype", keeps_fp8(s), "has no FP8 KV cache; choose backend=pytorch"),
                (
                    "kv_cache_tokens",
                    s["kv_cache_tokens"] is not None,
                    "only accepts a share of the memory; give kv_memory_fraction",
                ),
            ),
        )
    elif s["kv_cache_tokens"] is not None and not load.config.get("sliding_window"):
        # engine.py, `_get_max_session_len`: the longest sequence leaves a block free, for what is allocated ahead.
        block = block_tokens(load)
        least = (-(-s["context_length"] // block) + 1) * block
        needs = f"needs at least {least} for a context_length of {s['context_length']}"
        refuse("LMDeploy", s, [("kv_cache_tokens", s["kv_cache_tokens"] <= least - block, needs)])


def refuse_quantization(s: dict[str, Any], stored: dict[str, Any], turbomind: bool) -> None:
    """Raises UnsupportedSetting if the backend cannot run a checkpoint's quantization.

    `stored` is config.json's own account.
    """

    def no(title: str, refused: bool, why: str) -> None:
        refuse(title, s, [("quantization", refused, why)])

    method, blocks = stored.get("quant_method"), stored.get("weight_block_size")
    static = stored.get("activation_scheme") == "static" and blocks is None
    symmetric = not stored.get("desc_act") and stored.get("sym", True)
    no("TurboMind", turbomind and method is None, "runs quantized checkpoints only as stored")
    if method == "awq":
        no("LMDeploy", stored.get("version", "gemm") != "gemm", "supports AWQ weights only in the gemm layout")
    elif method == "gptq":
        no("LMDeploy's pytorch backend", not turbomind, "does not support GPTQ weights; TurboMind does")
        no("TurboMind", not symmetric, "supports only symmetric GPTQ weights without activation order")
    elif method == "fp8":
        unread = blocks != FP8_BLOCK and (turbomind or not static)
        no("LMDeploy", unread, "supports only block-wise FP8 weights with blocks of 128 x 128")
    elif method == "compressed-tensors":
        refuse_packed(s, stored, turbomind)
    elif method == "mxfp4":
        no("LMDeploy's pytorch backend", not turbomind, "does not support MXFP4 weights; TurboMind does")
    if turbomind and method in ("awq", "gptq"):
        no("TurboMind", stored.get("group_size") != 128, f"supports {method.upper()} weights only with group_size 128")


def refuse_packed(s: dict[str, Any], stored: dict[str, Any], turbomind: bool) -> None:
    """Raises UnsupportedSetting for compressed-tensors weights that the backend cannot run.

    TurboMind reads the format from the group (turbomind/converter.py, `get_tm_config`). The PyTorch engine has kernels
    for experts alone, in groups of 32 (pytorch/config.py, `_parse_compressed_tensors_config`; pytorch/nn/linear).
    """
    group = (stored.get("config_groups") or {}).get("group_0") or {}
    weights = group.get("weights") or {}
    packed = stored.get("format") == "pack-quantized" and (weights.get("num_bits"), weights.get("type")) == (4, "int")
    size = weights.get("group_size")
    experts_alone = size == 32 and any("attn" in rule for rule in stored.get("ignore") or ())

    def no(title: str, refused: bool, why: str) -> None:
        refuse(title, s, [("quantization", refused, why)])

    no("LMDeploy", not packed, "supports only 4-bit compressed-tensors weights (pack-quantized)")
    why = "supports compressed-tensors weights only in experts, in groups of 32; TurboMind supports them in all layers"
    no("LMDeploy's pytorch backend", not turbomind and not experts_alone, why)
    no(
        "TurboMind",
        turbomind and size not in (32, 128),
        "supports compressed-tensors weights only in groups of 32 or 128",
    )
    why = "reads the format of compressed-tensors weights from config_groups.group_0.format, which config.json lacks"
    no("TurboMind", turbomind and "format" not in group, why)
