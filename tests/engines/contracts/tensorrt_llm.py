"""What the TensorRT-LLM adapter touches, in a table of signatures read in its repository.

Fields of objects that come from its C++ bindings are in no Python source: `context_chunk_size`, `max_beam_num_tokens`,
`orig_prompt_len` and `is_last_context_chunk` of a request are here because PyExecutor itself reads them,
`output_token_ids` of a result and the counts of the KV cache's statistics are left out.

The table is not of one revision: when it was made, single files of the 1.2 line could be read, most of them without
their commit, but no checkout and no wheel (its wheels are on NVIDIA's own index). What the files leave open is whether
a name was renamed between them. With a checkout, `python -m tests.engines.contracts.repository tensorrt_llm CHECKOUT
--revision v1.2.1 --version 1.2` makes the table from it, prints what the adapter touches in vain, and ORIGIN goes.
"""

from __future__ import annotations

from engines.tensorrt_llm import native_arguments

from ..loads import make_load
from .repository import READS

REPOSITORY = "NVIDIA/TensorRT-LLM"
ORIGIN = {
    "transcribed": "only what is touched, copied by hand from the files below, which were read one by one",
    "files": {
        "tensorrt_llm/_torch/pyexecutor/py_executor.py": "1.2 line, a text of 155,167 characters; revision unknown",
        "tensorrt_llm/_torch/pyexecutor/llm_request.py": "1.2 line, a text of 33,847 characters; revision unknown",
        "tensorrt_llm/llmapi/llm_args.py": "1.2 line, a text of 139,423 characters; revision unknown",
        "tensorrt_llm/sampling_params.py": "older, a text of 24,821 characters; revision unknown",
        "tensorrt_llm/executor/base_worker.py": "000bd1a6c3231651a9abe3cc6e7494042b6d2228, newer than 1.2",
        "tensorrt_llm/executor/request.py": "08c3313049a824d5b4dd95e296f129f00b8b3884, older than 1.2",
        "tensorrt_llm/llmapi/llm.py, executor/executor.py": "excerpts: LLM._executor, shutdown, _get_next_client_id",
    },
}
EXECUTOR = "tensorrt_llm._torch.pyexecutor.py_executor:PyExecutor"
REQUEST = "tensorrt_llm._torch.pyexecutor.llm_request"
ARGS = "tensorrt_llm.llmapi.llm_args"

LOADS = [
    make_load(kv_cache_tokens=9, cuda_graphs=True, chunked_prefill=True),
    make_load(kv_memory_fraction=0.9, engine_args={"disable_overlap_scheduler": True}),
]
FOUND = [native_arguments(load) for load in LOADS]
CACHE = sorted({name for found in FOUND for name in found["kv_cache_config"]} | {"dtype"})

TOUCHES = [
    "tensorrt_llm:__version__",
    "tensorrt_llm:LLM._executor",
    "tensorrt_llm:LLM.shutdown()",
    f"{ARGS}:TorchLlmArgs({', '.join(sorted({name for found in FOUND for name in found}))}, attn_backend)",
    f"{ARGS}:KvCacheConfig({', '.join(CACHE)})",
    f"{ARGS}:CudaGraphConfig({', '.join(FOUND[0]['cuda_graph_config'])})",
    "tensorrt_llm.sampling_params:SamplingParams(max_tokens, ignore_eos, end_id, pad_id, top_k, detokenize)",
    "tensorrt_llm.executor.request:GenerationRequest(prompt_token_ids, sampling_params, streaming)",
    "tensorrt_llm.executor.request:GenerationRequest.set_id(id)",
    "tensorrt_llm.executor.base_worker:BaseWorker.engine",
    "tensorrt_llm.executor.base_worker:BaseWorker._enqueue_request(request)",
    "tensorrt_llm.executor.base_worker:BaseWorker._get_next_client_id()",
    f"{EXECUTOR}._schedule()",
    f"{EXECUTOR}._forward_step(scheduled_requests)",
    f"{EXECUTOR}._sample_async(scheduled_batch, batch_outputs)",
    f"{EXECUTOR}._update_requests(sample_state)",
    f"{EXECUTOR}._handle_responses()",
    f"{EXECUTOR}._enqueue_responses(responses)",
    f"{EXECUTOR}.cancel_request(id)",
    *(
        f"{EXECUTOR}.{name}"
        for name in (
            "active_requests",
            "disable_overlap_scheduler",
            "enable_kv_cache_reuse",
            "kv_cache_manager",
            "llm_args",
            "max_batch_size",
            "max_num_tokens",
            "max_seq_len",
            "model_engine",
            "resource_manager",
            "worker_thread",
        )
    ),
    f"{REQUEST}:LlmResponse(error_msg, result)",
    f"{REQUEST}:LlmResponse.has_error()",
    f"{REQUEST}:LlmResult.deserialize()",
    f"{REQUEST}:LlmResult.is_final",
    f"{REQUEST}:LlmRequest.py_request_id",
    *(
        f"{READS}{EXECUTOR.partition(':')[0]}:{name}"
        for name in ("context_chunk_size", "is_last_context_chunk", "max_beam_num_tokens", "orig_prompt_len")
    ),
]

RENAMED = [  # in the table, and what is then said
    ('"max_num_tokens"', '"max_tokens_per_step"', "has no parameter max_num_tokens"),
    ('"_handle_responses"', '"_emit_responses"', "has no _handle_responses"),
    ('"streaming"', '"stream"', "has no parameter streaming"),
    ('"enable_block_reuse"', '"reuse"', "has no parameter enable_block_reuse"),
]
