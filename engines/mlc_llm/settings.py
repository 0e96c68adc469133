"""What the common settings become for MLC-LLM: fields of its EngineConfig, and what a model is compiled with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerloop.engines.contract import Load, UnsupportedSetting
from innerloop.engines.mlc_llm.prepare import Preparation, compile_command, configure_command, convert_command

QUANTIZATION = {"float16": "q0f16", "bfloat16": "q0bf16", "float32": "q0f32"}  # none, by dtype
AWQ = "q4f16_autoawq"
NO_GRAPHS = "flashinfer=1;cublas_gemm=1;faster_transformer=0;cudagraph=0;cutlass=1"  # O2 but for its CUDA graphs
OURS = ("quantization", "opt", "tensor_parallel_shards", "seed")  # not fields of EngineConfig here
AWQ_MODELS = ("eagle", "llama", "llava", "olmo")  # model/model.py: those with AWQ both as a source and as a method
LEARNED_POSITIONS = ("gpt2",)  # model/gpt2/gpt2_model.py: a weight has a row for each position of the context window
PAGE_TOKENS = 16  # the only size that it has (serve/engine_base.py)
SPARE_TOKENS = 8  # kept free for each request that runs, else none is admitted (HasPrefillSpace, batch_prefill_base.cc)
FREE_PAGES = 10  # MAX_AVG_JUMPFORWARD_PAGES_PER_REQUEST (batch_jumpforward.cc): with fewer, requests are thrown out
ROOM_TOKENS = (FREE_PAGES + 1) * PAGE_TOKENS  # for those pages and the rest of a request's last one


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of EngineConfig and, in `OURS`, as what the model is compiled with, then the
    user's own `engine_args`, which win."""
    s = load.settings
    awq, model_type = s["quantization"] == "awq", load.config.get("model_type")
    refusals = {
        "quantization": (
            s["quantization"] not in (None, "awq"),
            "has no GPTQ, and FP8 only from weights that it calibrated itself; awq works",
        ),
        "chunked_prefill": (s["chunked_prefill"] is False, "always splits long prompts"),
        "dtype": (awq and s["dtype"] != "float16", "runs AWQ in float16 only"),
        # AWQQuantizeLinear.from_linear (quantization/awq_quantization.py) forgets how a layer is split.
        "tensor_parallel": (awq and s["tensor_parallel"] != 1, "cannot split AWQ weights over devices"),
    }
    for name, (refused, why) in refusals.items():
        if refused:
            raise UnsupportedSetting(f"{name}={s[name]}: MLC-LLM {why}")
    if awq and model_type is not None and model_type not in AWQ_MODELS:
        raise UnsupportedSetting(
            f"quantization=awq: MLC-LLM reads AWQ of {', '.join(AWQ_MODELS)} only, not {model_type}"
        )
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


def preparation(load: Load, arguments: dict[str, Any], version: str, compiler: str) -> Preparation:
    """What is to be converted and compiled for these settings."""
    return Preparation(
        checkpoint=load.checkpoint,
        device=load.device,
        version=version,
        compiler=compiler,
        quantization=arguments["quantization"],
        source_format="awq" if arguments["quantization"] == AWQ else "auto",
        opt=arguments["opt"],
        overrides={
            "context_window_size": arguments["max_single_sequence_length"],
            "prefill_chunk_size": arguments["prefill_chunk_size"],
            "max_batch_size": arguments["max_num_sequence"],
            "tensor_parallel_shards": arguments["tensor_parallel_shards"],
        },
    )


def preparation_steps(load: Load) -> list[str]:
    """The commands that prepare a model for these settings, without running them; folders by what they are."""
    wanted = preparation(load, native_arguments(load), "", "")
    source, model, library = Path(load.checkpoint), Path("MODEL"), Path("LIBRARY.so")
    commands = (
        convert_command(wanted, source, model),
        configure_command(wanted, source, model),
        compile_command(wanted, model, library),
    )
    return [" ".join(command[2:]) for command in commands]
