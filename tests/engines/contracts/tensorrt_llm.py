"""What the TensorRT-LLM adapter touches, in a table of signatures read in its repository.

Fields of objects that come from its C++ bindings are in no Python source: those of a request and the counts of the KV
cache's statistics are here because PyExecutor itself reads them, `output_token_ids` of a result because the engine's
own handling of responses does. resource_manager.py was not read at a commit of those months: what is called of its
classes is what PyExecutor calls, and the one field that is read, `dtype`, is from a later commit, whose KVCacheManager
takes what JANUARY's _util.py gives it. Its value is an enum of the bindings, whose names _utils.py reads.

The table is not of one revision: its wheels are on NVIDIA's own index, and of the 1.2 line single files could be read,
each at a stored commit, but no checkout. JANUARY and DECEMBER are developers' branches, with changes of their own, off
`main` shortly after and before release/1.2 left it (`main` is 1.3.0rc0 since 15 January 2026, release/1.2 has commits
of its own since the 16th). JANUARY is the nearer one and comes first; what it does not hold is from the nearest commit
where it was found. DECEMBER holds py_executor.py, llm_args.py and base_worker.py too: what is touched is the same
there, but that _forward_step has no `num_accepted_tokens_device` yet. The dates are those of the changes named beside
them in main's log, of which HuiGao-NV/TensorRT-LLM keeps a copy (commit_section_2.md to _5.md at
31d1a1e79bd18d3f3cb854a23e6fd26cbb61564e).

With a checkout, `python -m tests.engines.contracts.repository tensorrt_llm CHECKOUT --revision v1.2.1 --version 1.2`
makes the table from it, prints what the adapter touches in vain, and ORIGIN goes.
"""

from __future__ import annotations

from innerloop.engines.tensorrt_llm.settings import CACHE_RESERVED, RESERVED, native_arguments
from tests.engines.contracts.repository import READS
from tests.engines.support.loads import make_load

REPOSITORY = "NVIDIA/TensorRT-LLM"
JANUARY = "HuiGao-NV/TensorRT-LLM@195839a73571888fc1236254c12fa6db7a815920, 16 to 20 January 2026"
DECEMBER = "Shixiaowei02/TensorRT-LLM@4e47c1cb96292f6e3db173eff911de0b4d2b27a0, 1 to 9 December 2025, 1.2.0rc5"
ORIGIN = {
    "transcribed": "only what is touched, copied by hand from the files below, which were read one by one",
    "files": {
        "tensorrt_llm/_torch/pyexecutor/py_executor.py": f"{JANUARY}: has HangDetector (#10480), not yet #9891",
        "tensorrt_llm/_torch/pyexecutor/model_engine.py": JANUARY,
        "tensorrt_llm/_torch/model_config.py": JANUARY,
        "tensorrt_llm/_utils.py": JANUARY,
        "tensorrt_llm/_torch/pyexecutor/resource_manager.py": "NVIDIA/TensorRT-LLM@"
        "001541bad83b84ae4c5c4a279e464572d5f690f7, later: has KVCacheManagerV2, "
        "which tensorrt_llm/_torch/pyexecutor/_util.py of the January commit lacks",
        "tensorrt_llm/_torch/pyexecutor/scheduler.py": "NVIDIA/TensorRT-LLM@034fffb0900632b2aefdec1ce9a5b5cbe63d22ba, "
        "24 December 2025 or later: has PyCapacityScheduler (#10273, in main since 20 January 2026)",
        "tensorrt_llm/_torch/pyexecutor/llm_request.py": f"{DECEMBER}: beside it llm_args.py has "
        "env_overrides (#9104), py_executor.py not yet #9659",
        "tensorrt_llm/llmapi/llm_args.py": f"{JANUARY}: has max_stats_len (#10569)",
        "tensorrt_llm/sampling_params.py": f"{JANUARY}: has LogprobMode (#9675)",
        "tensorrt_llm/executor/base_worker.py": f"{JANUARY}: has py_logprobs_mode (#9675), not yet #10187",
        "tensorrt_llm/executor/executor.py": "NVIDIA/TensorRT-LLM@ed53795b33fc139493f762a1c6c53f691cf52d38, "
        "22 to 27 October 2025, 1.2.0rc2: has logger_debug (#8417), not yet trace_headers (#5897)",
        "tensorrt_llm/executor/request.py": "hchings/TensorRT-LLM@54ef9f35323e0f44c9bafa6b71f1f32858c1e388, "
        "27 October to 7 November 2025, 1.2.0rc2: has trace_headers (#5897), beside it py_executor.py not yet #8856",
        "tensorrt_llm/executor/result.py": "hchings/TensorRT-LLM@54ef9f35323e0f44c9bafa6b71f1f32858c1e388, "
        "27 October to 7 November 2025, 1.2.0rc2, as executor/request.py",
        "tensorrt_llm/llmapi/llm.py": JANUARY,
        "tensorrt_llm/llmapi/__init__.py": "NVIDIA/TensorRT-LLM@5ca85aff65b2c7d0ba06fb6c7d7c015ed78886f8, "
        "14 October to 11 December 2025: has RocketSparseAttentionConfig (#8086), not yet AsyncLLM (#9353)",
        "tensorrt_llm/__init__.py": f"{JANUARY}: has AsyncLLM (#9353)",
        "tensorrt_llm/version.py": "NVIDIA/TensorRT-LLM@b35ac1b64368513d215c57d2ed01d62d910df8da: says 1.2.0rc2",
    },
}
PYEXECUTOR = "tensorrt_llm._torch.pyexecutor"
EXECUTOR = f"{PYEXECUTOR}.py_executor:PyExecutor"
REQUEST = f"{PYEXECUTOR}.llm_request"
ARGS = "tensorrt_llm.llmapi.llm_args"

LOADS = [
    make_load(kv_cache_tokens=9, cuda_graphs=True, chunked_prefill=True),
    make_load(kv_memory_fraction=0.9, engine_args={"disable_overlap_scheduler": True}),
]
FOUND = [native_arguments(load) for load in LOADS]
NOT_READ = {"model_kwargs"}  # refused by name all the same: what was read does not show whether it is there
ARGUMENTS = sorted({name for found in FOUND for name in found} | set(RESERVED) - NOT_READ)
CACHE = sorted({name for found in FOUND for name in found["kv_cache_config"]} | {"tokens_per_block", *CACHE_RESERVED})

TOUCHES = [
    "tensorrt_llm:__version__",
    "tensorrt_llm:LLM._executor",
    "tensorrt_llm:LLM.shutdown()",
    f"{ARGS}:TorchLlmArgs({', '.join(ARGUMENTS)}, attn_backend)",
    f"{ARGS}:KvCacheConfig({', '.join(CACHE)})",
    f"{ARGS}:CudaGraphConfig({', '.join(FOUND[0]['cuda_graph_config'])})",
    "tensorrt_llm.sampling_params:SamplingParams(max_tokens, ignore_eos, end_id, pad_id, top_k, detokenize)",
    "tensorrt_llm.executor.request:GenerationRequest(prompt_token_ids, sampling_params, streaming)",
    "tensorrt_llm.executor.request:GenerationRequest.set_id(id)",
    "tensorrt_llm.executor.request:GenerationRequest.id",
    "tensorrt_llm.executor.base_worker:BaseWorker.engine",
    "tensorrt_llm.executor.base_worker:BaseWorker._enqueue_request(request)",
    f"{EXECUTOR}._schedule()",
    f"{EXECUTOR}._forward_step(scheduled_requests)",
    f"{EXECUTOR}._sample_async(scheduled_batch, batch_outputs)",
    f"{EXECUTOR}._update_requests(sample_state)",
    f"{EXECUTOR}._handle_responses()",
    f"{EXECUTOR}._enqueue_responses(responses)",
    f"{EXECUTOR}.cancel_request(id)",
    f"{EXECUTOR}.control_action()",
    f"{EXECUTOR}.reset_prefix_cache()",
    *(
        f"{EXECUTOR}.{name}"
        for name in (
            "active_requests",
            "disable_overlap_scheduler",
            "enable_kv_cache_reuse",
            "kv_cache_manager",
            "llm_args",
            "max_batch_size",
            "max_seq_len",
            "model_engine",
            "resource_manager",
            "worker_thread",
        )
    ),
    f"{REQUEST}:LlmResponse(error_msg, result, client_id)",
    f"{REQUEST}:LlmResponse.has_error()",
    f"{REQUEST}:LlmResult.deserialize()",
    f"{REQUEST}:LlmResult.is_final",
    f"{REQUEST}:LlmRequest.py_request_id",
    *(
        f"{READS}{EXECUTOR.partition(':')[0]}:{name}"
        for name in (
            "context_chunk_size",
            "context_current_position",
            "get_kv_cache_stats",
            "is_last_context_chunk",
            "max_beam_num_tokens",
            "max_num_blocks",
            "orig_prompt_len",
            "prepare_resources",
            "tokens_per_block",
            "used_num_blocks",
        )
    ),
    f"{READS}tensorrt_llm.executor.result:output_token_ids",
    *(
        f"{PYEXECUTOR}.scheduler:ScheduledRequests.{name}"
        for name in ("context_requests", "generation_requests", "paused_requests")
    ),
    *(
        f"{PYEXECUTOR}.model_engine:PyTorchModelEngine.{name}"
        for name in ("attn_runtime_features", "dtype", "max_num_tokens", "max_seq_len", "model")
    ),
    *(f"{READS}{PYEXECUTOR}.model_engine:{name}" for name in ("chunked_prefill", "model_config", "quant_config")),
    "tensorrt_llm._torch.model_config:ModelConfig.quant_config",
    f"{READS}tensorrt_llm._torch.model_config:quant_algo",
    f"{PYEXECUTOR}.resource_manager:KVCacheManager.dtype",
    *(f"{READS}tensorrt_llm._utils:{name}" for name in ("BF16", "FP8", "HALF", "name")),
]

RENAMED = [  # in the table, and what is then said
    ('"max_num_tokens"', '"max_tokens_per_step"', "has no parameter max_num_tokens"),
    ('"_handle_responses"', '"_emit_responses"', "has no _handle_responses"),
    ('"speculative_config"', '"speculation"', "has no parameter speculative_config"),
    ('"result", "client_id"]', '"result", "client"]', "has no parameter client_id"),
    ('"reset_prefix_cache"', '"clear_cache"', "has no reset_prefix_cache"),
    ('"streaming"', '"stream"', "has no parameter streaming"),
    ('"enable_block_reuse"', '"reuse"', "has no parameter enable_block_reuse"),
    ('"paused_requests"', '"evicted_requests"', "has no paused_requests"),
    ('"attn_runtime_features"', '"attn_features"', "has no attn_runtime_features"),
    ('"quant_algo"', '"quant_method"', "has no quant_algo"),
    ('"tokens_per_block"', '"block_size"', "has no parameter tokens_per_block"),
    ('"prepare_resources"', '"prepare"', "has no prepare_resources"),
]
