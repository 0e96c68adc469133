"""What a kernel or operator does, by its name: the one place where names are known.

The patterns are those of names that vLLM, FlashAttention, FlashInfer, SGLang, TurboMind, TensorRT-LLM, cuBLAS, CUTLASS,
Triton and torch give their kernels, and of torch's operators on a CPU. They are tried in order, the first that matches
wins: a FlashAttention kernel is also a CUTLASS one, and a KV write is also a copy. What nothing matches is "other".
"""

from __future__ import annotations

import re
from functools import cache

CLASSES = ("gemm", "attention", "kv_write", "norm_activation", "sampling", "communication", "copies", "other", "moe")
TITLES = {
    "gemm": "GEMM",
    "moe": "experts (MoE)",
    "attention": "attention",
    "kv_write": "KV write",
    "norm_activation": "norm, activation",
    "sampling": "sampling",
    "communication": "communication",
    "copies": "copies",
    "other": "other",
}
WEAK = ("norm_activation", "copies", "other")  # inside another operator such an operator is a part of that one

RULES = (
    ("copies", r"^mem(cpy|set)|FillFunctor|direct_copy_kernel|bfloat16_copy_kernel|float16_copy_kernel"),
    (
        "communication",
        r"nccl|\brccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|cross_device_reduce|one_?shot|two_?shot"
        r"|ar_fusion|lamport|multimem|\bc10d::|nvshmem|moe_?dispatch|moe_?combine|deep_ep::",
    ),
    (
        "kv_write",
        r"reshape_and_cache|concat_and_cache|quant_and_cache|AppendPagedKVCache|append_paged|store_?kv_?cache"
        r"|set_kv_buffer|write_(to_)?kv|process_?kv|fill_?kv_?cache|update_?kv_?cache|kv_?cache_(write|update|store)"
        r"|transpose_?append|index_put|index_copy|indexFunc(Large|Small)",
    ),
    (
        "attention",
        r"attention|flash_?attn|flash::|flash_fwd|\battn|_attn|fmha|mmha|kernel_mha|\bmha|\bxqa|\bmla|_mla"
        r"|Batch(Prefill|Decode)|Single(Prefill|Decode)|PagedKVCache|merge_?states?|reduce_segments|prepare_varlen"
        r"|splitkv|paged_kv|mqa_logits|_fwd_(grouped_)?kernel|scaled_dot_product",
    ),
    ("moe", r"moe|topkGating|grouped_topk|v3_topk|expert|expandInputRows"),
    (
        "sampling",
        r"arg_?(max|min)|top_?[kp]|sampl|multinomial|softmax|logits|penalt|gumbel|exponential_|sort|beam|temperature"
        r"|curand|rejection",
    ),
    (
        "gemm",
        r"gemm(?!a)|gemv|nvjet|cublas|cutlass(::gemm|::Kernel|::device_kernel|::conv|_\d|3x)|wgmma|s\d+816|[hi]mma_|xmma"
        r"|split_?k_?reduce|marlin|machete|awq|gptq|exl2|exllama|group(ed)?_?mm|scaled_mm|matmul|(^|[:_])(b|add|baddb)?mm"
        r"(_|$)|triton_tem_fused.*mm|linear(_|$)|_linear|onednn|mkldnn|dnnl|w\d+a\d+|convolution|conv\dd|dot_kernel",
    ),
    (
        "norm_activation",
        r"norm|silu|gelu|swiglu|relu|sigmoid|tanh|act_and_mul|activation|rotary|rope|quant|elementwise|reduce_kernel"
        r"|triton_(poi|red|per)_fused|bias|residual|::(r?sqrt|mul|add|r?sub|div|neg|pow|mean|sum|exp|sin|cos|eq|ne|lt|le"
        r"|gt|ge|cumsum|where|masked_fill|square|reciprocal|clamp|minimum|maximum|max|min|any|all|bitwise_\w+|logical_\w+"
        r"|remainder|floor_divide)_?$",
    ),
    (
        "copies",
        r"copy|CatArray|gather|scatter|indexSelect|embedding|masked_select|nonzero|repeat|convert|FillFunctor"
        r"|^aten::(cat|clone|contiguous|to|index|index_select|fill|zero|stack|pad|roll|flip|arange|zeros|zeros_like|ones"
        r"|ones_like|full|full_like|empty|empty_\w+|expand|expand_as|view|view_as|as_strided|slice|select|reshape"
        r"|transpose|t|permute|unsqueeze|squeeze|split|split_with_sizes|chunk|narrow|unbind|item|_local_scalar_dense"
        r"|resize|unflatten|flatten|detach|resolve_conj|resolve_neg|new_\w+|set|lift_fresh|alias|movedim|tril|triu"
        r"|_unsafe_view|_reshape_alias|unfold|diff|numpy_T|result_type|is_nonzero)_?$",
    ),
)
_PATTERNS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in RULES)


@cache
def class_of(name: str) -> str:
    """The class of a kernel, copy or operator of that name; "other" where no rule knows it."""
    return next((known for known, pattern in _PATTERNS if pattern.search(name)), "other")


def nested_class(name: str, parent: str | None) -> str:
    """The class of an operator inside one of class `parent` (None: inside nothing).

    What attention calls is attention, but for the writing of the KV cache; helpers (copies, arithmetic, what is
    unknown) belong to what they help.
    """
    own = class_of(name)
    if parent == "attention" and own not in ("kv_write", "communication"):
        return "attention"
    if parent is not None and parent not in WEAK and own in WEAK:
        return parent
    return own
