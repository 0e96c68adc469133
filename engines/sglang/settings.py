"""SGLang's settings: the common ones in its own words, and which of its arguments are not the user's."""

from __future__ import annotations

from typing import Any

from innerloop.engines.contract import Load
from innerloop.engines.support.refusals import OTHER_MODEL, by_setting, refuse
from innerloop.engines.support.shapes import fp8_in_blocks, is_quantized, keeps_fp8

# The scheduler ends a request two positions before context_length, and refuses prompts within seven of it.
CONTEXT_MARGIN = 6
ON_CPUS = ("LlamaForCausalLM",)  # what was run with its PyTorch operators; torch_native attention has no MLA
# Their load_weights (models/llama.py) renames the scales of blocks to what no parameter is called, and goes on.
LOSES_BLOCK_SCALES = {"LlamaForCausalLM", "MistralForCausalLM"}
WATCHDOG_S = 1e6  # its watchdog would send a signal to the worker's parent; the harness has one of its own

# The groups are those of its arg_groups/fields: parallel, disagg, spec; and what else has a loop of its own.
RANKS = (
    "dist_init_addr", "gated_launch_port", "nnodes", "node_rank", "dcp_size", "pp_size", "pp_max_micro_batch_size",
    "pp_async_batch_depth", "dp_size", "attn_dp_size", "load_balance_method", "attn_cp_size", "moe_dp_size",
    "dwdp_size", "dcp_comm_backend", "dcp_replicate_q_proj", "enable_prefill_cp", "cp_strategy",
    "enable_cp_tp_group_sharing", "enable_dsa_cache_layer_split", "enable_cp_decode_attn_tp",
    "enable_kv_cache_sharding", "enable_dp_attention", "enable_dp_attention_local_control_broadcast",
    "enable_dp_lm_head", "enable_tp_lm_head_all_to_all", "enable_attn_tp_input_scattered",
    "enable_shared_experts_attn_tp", "shared_experts_tp_size", "enable_dense_mlp_attn_tp", "enable_layernorm_sp",
    "enable_megamoe_for_layernorm_sp", "disable_attn_tp_gather", "ep_size", "moe_dense_tp_size", "ep_join_rank_offset",
    "elastic_ep_initial_size", "max_ep_size", "use_ray",
)  # fmt: skip
DISAGGREGATION = (
    "disaggregation_mode", "disaggregation_decode_allocation_policy", "disaggregation_transfer_backend",
    "disaggregation_enable_kv_checksum", "disaggregation_bootstrap_port", "disaggregation_ib_device",
    "disaggregation_decode_enable_radix_cache", "disaggregation_decode_enable_offload_kvcache",
    "disaggregation_decode_retraction_backup", "num_reserved_decode_tokens", "disaggregation_decode_extra_slots",
    "disaggregation_decode_polling_interval", "enable_pd_role_switch", "optimistic_prefill_attempts", "encoder_only",
    "language_only", "encoder_transfer_backend", "encoder_urls", "encoder_bootstrap_port", "encoder_register_urls",
    "enable_adaptive_dispatch_to_encoder", "enable_pdmux", "pdmux_config_path", "sm_group_num",
    "disaggregation_decode_host_receive_threshold",
)  # fmt: skip
SPECULATION = (
    "speculative_algorithm", "uno_lora_path", "speculative_draft_model_path", "speculative_boundary_reduction",
    "speculative_draft_model_revision", "speculative_draft_load_format", "speculative_num_steps",
    "speculative_eagle_topk", "speculative_num_draft_tokens", "speculative_dflash_block_size",
    "speculative_domino_candidate_pool_size", "speculative_dspark_block_size", "speculative_dspark_sps_table_path",
    "speculative_dspark_confidence_sts_path", "speculative_dspark_align_verify_tokens_to_graph_tier",
    "speculative_accept_threshold_single", "speculative_accept_threshold_acc", "speculative_use_rejection_sampling",
    "speculative_use_block_verification", "speculative_token_map", "speculative_attention_mode",
    "speculative_draft_attention_backend", "speculative_dsa_topk_backend", "speculative_draft_kv_cache_dtype",
    "speculative_draft_window_size", "speculative_draft_sink_size", "speculative_moe_runner_backend",
    "speculative_moe_a2a_backend", "speculative_enable_w4a4_mxfp4_megamoe", "speculative_draft_model_quantization",
    "_speculative_draft_quantization_explicitly_set", "enable_multi_layer_eagle", "speculative_adaptive",
    "speculative_adaptive_config", "spec_trace_dir", "speculative_ngram_min_bfs_breadth",
    "speculative_ngram_max_bfs_breadth", "speculative_ngram_match_type", "speculative_ngram_max_trie_depth",
    "speculative_ngram_capacity", "speculative_ngram_external_corpus_path", "speculative_ngram_external_sam_budget",
    "speculative_ngram_external_corpus_max_tokens", "decoupled_spec_bind_endpoint", "decoupled_spec_connect_endpoints",
    "decoupled_spec_rank", "decoupled_spec_role", "dllm_algorithm", "dllm_algorithm_config", "dllm_fdfo",
)  # fmt: skip
RESERVED = {
    **by_setting(
        dtype="dtype",
        quantization="quantization",
        tp_size="tensor_parallel",
        context_length="context_length",
        max_running_requests="max_batch_size",
        max_prefill_tokens="max_tokens_per_step",
        chunked_prefill_size="chunked_prefill, or max_tokens_per_step",
        disable_radix_cache="prefix_caching",
        cuda_graph_backend_decode="cuda_graphs",
        cuda_graph_backend_prefill="cuda_graphs",
        disable_cuda_graph="cuda_graphs",
        disable_decode_cuda_graph="cuda_graphs",
        max_total_tokens="kv_cache_tokens",
        kv_cache_dtype="kv_cache_dtype",
        mem_fraction_static="kv_memory_fraction",
        random_seed="seed",
    ),
    "model_path": "use --model or --weights DIR instead",
    "trust_remote_code": "use --trust-remote-code instead",
    "device": "use --device instead",
    **dict.fromkeys(("base_gpu_id", "gpu_id_step"), "choose the GPUs with CUDA_VISIBLE_DEVICES instead"),
    **dict.fromkeys(RANKS, "this layer steps one scheduler, which uses one device"),
    **dict.fromkeys(DISAGGREGATION, "this layer steps one scheduler, which prefills and decodes"),
    **dict.fromkeys(SPECULATION, "the adapter cannot track how it changes a step"),
    "json_model_override_args": OTHER_MODEL,
    "is_embedding": "innerloop only measures text generation",
    "stream_interval": "innerloop needs each token in the step that produced it",
    "sleep_on_idle": "requests come from this process and would not wake it",
    "watchdog_timeout": "it would stop the worker's parent; the harness has its own time limits",
}


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of ServerArgs, then the user's own `engine_args`, which win."""
    s = load.settings
    refuse_settings(load)
    whole = s["chunked_prefill"] is False
    arguments: dict[str, Any] = {
        "model_path": load.checkpoint,
        "skip_tokenizer_init": load.layer == "core",
        "trust_remote_code": load.trust_remote_code,
        "device": load.device,
        "dtype": s["dtype"],
        # Named, a stored method would get its plain kernels; found in config.json, the best ones (awq_marlin, say).
        "quantization": None if is_quantized(load.config) else s["quantization"],
        "tp_size": s["tensor_parallel"],
        "context_length": s["context_length"] + CONTEXT_MARGIN,
        "max_running_requests": s["max_batch_size"],
        "max_prefill_tokens": s["max_tokens_per_step"],
        "chunked_prefill_size": -1 if whole else s["max_tokens_per_step"],
        "disable_radix_cache": not s["prefix_caching"],
        "random_seed": s["seed"],
        "log_level": "error",
        "watchdog_timeout": WATCHDOG_S,
    }
    if s["cuda_graphs"] is not None:
        backend = "full" if s["cuda_graphs"] else "disabled"
        arguments["cuda_graph_backend_decode"] = backend
        if not s["cuda_graphs"]:
            arguments["cuda_graph_backend_prefill"] = backend
    if keeps_fp8(s):
        arguments["kv_cache_dtype"] = "fp8_e4m3"
    if s["kv_cache_tokens"] is not None:
        arguments["max_total_tokens"] = s["kv_cache_tokens"]
    elif s["kv_memory_fraction"] is not None:
        arguments["mem_fraction_static"] = s["kv_memory_fraction"]
    return {**arguments, **load.engine_args}


def refuse_settings(load: Load) -> None:
    """Raises UnsupportedSetting for the first setting that SGLang, or its one scheduler here, cannot honour."""
    s = load.settings
    lost = fp8_in_blocks(load.config) and not LOSES_BLOCK_SCALES.isdisjoint(load.config.get("architectures", ()))
    half_only = load.device == "cuda" and s["dtype"] == "float32"
    loses = (
        "drops the scales of block-wise FP8 weights of Llama models and produces NaN; use weights with one scale "
        "per output channel (llama3-8b-fp8-channel)"
    )
    too_long = s["chunked_prefill"] is False and s["max_tokens_per_step"] < s["context_length"]
    refuse(
        "SGLang",
        s,
        (
            ("quantization", lost, loses),
            ("dtype", half_only, "computes in bfloat16 or float16 on GPUs; use --set dtype=bfloat16"),
            ("cuda_graphs", load.device == "cpu" and s["cuda_graphs"], "has no CUDA graphs on a CPU"),
        ),
    )
    ranks = s["tensor_parallel"] != 1 and load.layer == "core"
    refuse("this layer", s, [("tensor_parallel", ranks, "steps one scheduler, which uses one device")])
    on_cpu = keeps_fp8(s) and load.device == "cpu"
    refuse("SGLang", s, [("kv_cache_dtype", on_cpu, "supports an FP8 KV cache only on GPUs")])
    short = f"({s['max_tokens_per_step']}) is less than context_length, so a prompt might not fit into one step"
    refuse("max_tokens_per_step", s, [("chunked_prefill", too_long, short)])
