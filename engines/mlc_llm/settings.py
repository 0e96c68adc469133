"""What the common settings become for MLC-LLM: fields of its EngineConfig, and what a model is compiled with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerloop.engines.contract import Load, Preparation, UnsupportedSetting
from innerloop.engines.mlc_llm import convert
from innerloop.engines.support.refusals import by_setting, refuse, refuse_architecture
from innerloop.engines.support.shapes import keeps_fp8

TITLE = "MLC-LLM"
QUANTIZATION = {"float16": "q0f16", "bfloat16": "q0bf16", "float32": "q0f32"}  # none, by dtype
AWQ = "q4f16_autoawq"
NO_GRAPHS = "flashinfer=1;cublas_gemm=1;faster_transformer=0;cudagraph=0;cutlass=1"  # O2 but for its CUDA graphs
COMPILE_ARGUMENTS = ("quantization", "opt", "tensor_parallel_shards")
NOT_ENGINE_CONFIG = (*COMPILE_ARGUMENTS, "seed")  # which is each request's
AWQ_MODELS = ("eagle", "llama", "llava", "olmo")  # model/model.py: those with AWQ both as a source and as a method
MODELS = (  # of those that innerloop knows, in model/model.py
    "llama", "mistral", "mixtral", "gemma2", "gemma3_text", "phi3", "qwen2", "qwen3", "qwen3_moe", "deepseek_v2",
    "deepseek_v3",
)  # fmt: skip
LACKING = dict.fromkeys(("GptOssForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM"), "has no such model")
LEARNED_POSITIONS = ("gpt2",)  # model/gpt2/gpt2_model.py: a weight has a row for each position of the context window
PAGE_TOKENS = 16  # the only size that it has (serve/engine_base.py)
SPARE_TOKENS = 8  # kept free for each request that runs, else none is admitted (HasPrefillSpace, batch_prefill_base.cc)
FREE_PAGES = 10  # MAX_AVG_JUMPFORWARD_PAGES_PER_REQUEST (batch_jumpforward.cc): with fewer, requests are preempted
ROOM_TOKENS = (FREE_PAGES + 1) * PAGE_TOKENS  # for those pages and the rest of a request's last one

NO_DRAFTS = "the adapter steps one model and cannot track how drafts change a step"
COMPILED = "MLC-LLM ignores it for precompiled models, which the adapter uses"
RESERVED = {
    **dict.fromkeys(("additional_models", "speculative_mode", "spec_draft_length", "spec_tree_width"), NO_DRAFTS),
    **dict.fromkeys(("pipeline_parallel_stages", "sliding_window_size", "attention_sink_size"), COMPILED),
    **by_setting(
        quantization="quantization",
        tensor_parallel_shards="tensor_parallel",
        max_single_sequence_length="context_length",
        max_num_sequence="max_batch_size",
        prefill_chunk_size="max_tokens_per_step",
        max_total_sequence_length="kv_cache_tokens",
        gpu_memory_utilization="kv_memory_fraction",
        prefix_cache_mode="prefix_caching",
        seed="seed",
    ),
    "model": "use --model or --weights DIR instead",
    "model_lib": "the model is compiled for the settings before it is loaded",
    "mode": "the adapter uses mode 'server'; the other modes limit the batch to a few requests",
}

MODEL, LIBRARY = "model", "library"  # the two preparations
LIBRARY_FILE = "library.so"
SCRIPT = str(Path(convert.__file__).resolve())


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of EngineConfig and, in `NOT_ENGINE_CONFIG`, as what the model is compiled with
    and each request gets, then the user's own `engine_args`, which win."""
    s = load.settings
    awq, model_type = s["quantization"] == "awq", load.config.get("model_type")
    refuse_architecture(load, TITLE, LACKING)
    refuse(
        TITLE,
        s,
        (
            (
                "quantization",
                s["quantization"] not in (None, "awq"),
                "does not support GPTQ, and supports FP8 only for weights it calibrated itself; use awq",
            ),
            ("chunked_prefill", s["chunked_prefill"] is False, "always splits long prompts"),
            ("kv_cache_dtype", keeps_fp8(s), "keeps the KV cache in the model's dtype"),
            ("dtype", awq and s["dtype"] != "float16", "runs AWQ in float16 only"),
            # AWQQuantizeLinear.from_linear (quantization/awq_quantization.py) forgets how a layer is split.
            ("tensor_parallel", awq and s["tensor_parallel"] != 1, "cannot split AWQ weights over devices"),
            (
                "quantization",
                awq and model_type is not None and model_type not in AWQ_MODELS,
                f"supports AWQ only for {', '.join(AWQ_MODELS)}, not for {model_type}",
            ),
        ),
    )
    if not isinstance(load.engine_args.get("opt", ""), str):
        raise UnsupportedSetting(f"engine argument opt={load.engine_args['opt']}: give a level, such as O2, or flags")
    # Without kv_cache_tokens the KV cache is at most max_num_sequence times the longest sequence (cpp/serve/config.cc).
    roomy = s["kv_cache_tokens"] is None and model_type not in LEARNED_POSITIONS
    arguments: dict[str, Any] = {
        "quantization": AWQ if awq else QUANTIZATION[s["dtype"]],
        "opt": NO_GRAPHS if s["cuda_graphs"] is False else "O2",
        "tensor_parallel_shards": s["tensor_parallel"],
        "seed": s["seed"],
        "max_single_sequence_length": s["context_length"] + (ROOM_TOKENS if roomy else 0),
        "max_num_sequence": s["max_batch_size"],
        "prefill_chunk_size": min(s["max_tokens_per_step"], s["context_length"]),  # its compiler takes no more
        "prefix_cache_mode": "radix" if s["prefix_caching"] else "disable",
    }
    if s["kv_cache_tokens"] is not None:
        arguments["max_total_sequence_length"] = s["kv_cache_tokens"]
    elif s["kv_memory_fraction"] is not None:
        arguments["gpu_memory_utilization"] = s["kv_memory_fraction"]
    return {**arguments, **load.engine_args}


def has_cuda_graphs(opt: str) -> bool:
    """Whether these optimizations, a level or flags (interface/compiler_flags.py), have them."""
    return opt in ("O2", "O3") or "cudagraph=1" in opt.split(";")


def preparation(load: Load) -> tuple[Preparation, Preparation]:
    """The model's folder (weights, configuration, tokenizer), and the library compiled for it and for the settings,
    which do not touch the weights."""
    arguments = native_arguments(load)
    quantization, opt, device = arguments["quantization"], arguments["opt"], load.device
    source_format = "awq" if quantization == AWQ else "auto"
    overrides = {
        "context_window_size": arguments["max_single_sequence_length"],
        "prefill_chunk_size": arguments["prefill_chunk_size"],
        "max_batch_size": arguments["max_num_sequence"],
        "tensor_parallel_shards": arguments["tensor_parallel_shards"],
    }
    source, to = Path(load.checkpoint), Path(MODEL.upper())
    model = Preparation(
        MODEL,
        (SCRIPT, "{checkpoint}", "{output}", quantization, device, source_format),
        {"quantization": quantization, "device": device, "source_format": source_format},
        (
            shown(convert.convert_arguments(source, to, quantization, device, source_format)),
            shown(convert.configure_arguments(source, to, quantization)),
        ),
    )
    library = Preparation(
        LIBRARY,
        ("-m", "mlc_llm", *compile_arguments(f"{{{MODEL}}}", f"{{output}}/{LIBRARY_FILE}", device, opt, overrides)),
        {"device": device, "opt": opt, **overrides},
        (shown(compile_arguments(MODEL.upper(), f"{LIBRARY.upper()}.so", device, opt, overrides)),),
    )
    return model, library


def compile_arguments(model: str, to: str, device: str, opt: str, overrides: dict[str, int]) -> list[str]:
    """What `python -m mlc_llm` takes to compile a model's library, which goes by its ending."""
    words = ";".join(f"{name}={value}" for name, value in overrides.items())
    return ["compile", model, "--device", device, "--opt", opt, "--overrides", words, "-o", to]


def shown(arguments: list[str]) -> str:
    return f"mlc_llm {' '.join(arguments)}"
