"""OpenVINO GenAI: its ContinuousBatchingPipeline stepped in this process, on a model that was converted beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from innerloop.engines.contract import Adapter, EngineInfo, Load, Preparation, Probe, Session, UnsupportedSetting
from innerloop.engines.openvino.scheduling import BLOCK_TOKENS, FollowedScheduler
from innerloop.engines.openvino.session import Limits, PipelineSession
from innerloop.engines.openvino.settings import (
    ARCHITECTURES,
    MODEL,
    PRECISION,
    RESERVED,
    TITLE,
    native_arguments,
    preparation,
    split_by_kind,
)
from innerloop.engines.support import versions
from innerloop.engines.support.shapes import kv_bytes_per_token

DISTRIBUTION = "openvino-genai"
DEVICE = "CPU"
PHASES = ("schedule_ns", "prepare_ns", "execute_ns", "wait_ns", "sample_ns", "update_ns")
WITH_PREFIX_CACHE = ("prefill_tokens", "cached_tokens", "preempted")
POSITIONS = (
    "positions and preemptions are derived from the rules of OpenVINO GenAI's scheduler and checked against what it "
    "reports for each step"
)
HELD = "with dynamic_split_fuse OpenVINO GenAI ignores max_num_seqs: requests beyond max_batch_size wait in the adapter"
GROWING = "the KV cache grows as needed; its usage is relative to what is allocated at that moment"


class OpenVinoAdapter(Adapter):
    """Loads the model that `preparation` made, with one token's step that allocates the KV cache."""

    name = "openvino"
    title = TITLE
    versions = ("2026.4", "2026.4")
    reserved = RESERVED
    variables = ("OPENVINO_", "OV_", "TBB_")

    def architectures(self, device: str) -> tuple[str, ...]:
        return ARCHITECTURES

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return native_arguments(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        return (*WITH_PREFIX_CACHE, *PHASES) if load.settings["prefix_caching"] else PHASES

    def preparation(self, load: Load) -> Sequence[Preparation]:
        return (preparation(load),)

    def imports(self, load: Load) -> None:
        import openvino  # noqa: F401
        import openvino_genai  # noqa: F401

    def open(self, load: Load) -> Session:
        version = metadata.version(DISTRIBUTION)
        with versions.explained(self.title, version, self.versions):
            return open_session(version, native_arguments(load), load)


adapter = OpenVinoAdapter()


def open_session(version: str, arguments: dict[str, Any], load: Load) -> PipelineSession:
    import openvino_genai

    config, properties = openvino_genai.SchedulerConfig(), split_by_kind(arguments)[1]
    check_machine(version, arguments, config)
    for name, value in arguments.items():
        if name not in properties:
            setattr(config, name, value)
    pipeline = openvino_genai.ContinuousBatchingPipeline(load.prepared[MODEL], config, DEVICE, properties)
    kv_bytes = allocated_cache(pipeline)
    check_cache(kv_bytes, config, arguments, load)
    s, split, blocks = load.settings, config.dynamic_split_fuse, config.num_kv_blocks or None
    session = PipelineSession(
        pipeline,
        Limits(s["context_length"], None if split else config.max_num_batched_tokens, blocks),
        config.max_num_seqs if split else None,
        None
        if config.enable_prefix_caching
        else FollowedScheduler(config.max_num_batched_tokens, config.max_num_seqs, blocks, split),
    )
    session.info = engine_info(version, config, kv_bytes if blocks else None, arguments, load)
    return session


def check_machine(version: str, arguments: dict[str, Any], config: Any) -> None:
    """
    Raises:
        UnknownArgument: neither the scheduler nor the plugin has an argument of that name.
        UnsupportedSetting: this CPU would compute in another type than was asked for, without a word.
    """
    import openvino

    core = openvino.Core()
    fields, properties = split_by_kind(arguments)
    known = {name for name in dir(config) if not name.startswith("_") and not callable(getattr(config, name))}
    versions.check_known(fields, known, f"SchedulerConfig of {TITLE} {version} has no field")
    supported = core.get_property(DEVICE, "SUPPORTED_PROPERTIES")
    versions.check_known(properties, set(supported), f"the CPU plugin of OpenVINO {version} has no property")
    wanted = arguments["INFERENCE_PRECISION_HINT"]
    able = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if wanted.replace("f", "FP").replace("bFP", "BF") not in able:
        dtype = next(name for name, precision in PRECISION.items() if precision == wanted)
        raise UnsupportedSetting(
            f"dtype={dtype}: OpenVINO does not support it on this CPU (supported: {', '.join(able)}); set dtype=float32"
        )


def allocated_cache(pipeline: Any) -> int:
    """Bytes of the KV cache, which the first step allocates: here it computes one token."""
    import numpy as np
    import openvino
    import openvino_genai

    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = 1, True, False
    handle = pipeline.add_request(0, openvino.Tensor(np.array([[0]], dtype=np.int64)), config)
    pipeline.step()
    if not handle.can_read():
        raise RuntimeError(f"{TITLE} computed nothing in its first step: {handle.get_status()}")
    return int(pipeline.get_metrics().cache_size_in_bytes)


def check_cache(kv_bytes: int, config: Any, arguments: dict[str, Any], load: Load) -> None:
    """
    Raises:
        RuntimeError: the KV cache is not held in the type that was asked for, or its blocks have another size.
    """
    dtype = load.settings["dtype"]
    wanted = config.num_kv_blocks * BLOCK_TOKENS * kv_bytes_per_token(load.config, dtype)
    if arguments["KV_CACHE_PRECISION"] == PRECISION[dtype] and config.num_kv_blocks and kv_bytes != wanted:
        raise RuntimeError(
            f"the KV cache takes {kv_bytes} bytes; {config.num_kv_blocks} blocks of {BLOCK_TOKENS} tokens in {dtype} "
            f"would take {wanted}"
        )


def engine_info(version: str, config: Any, kv_bytes: int | None, arguments: dict[str, Any], load: Load) -> EngineInfo:
    s, split = load.settings, config.dynamic_split_fuse
    tokens = config.num_kv_blocks * BLOCK_TOKENS or None
    kept = arguments["KV_CACHE_PRECISION"]
    return EngineInfo(
        version=version,
        effective={
            "dtype": s["dtype"],
            "quantization": None,
            "tensor_parallel": 1,
            "context_length": s["context_length"],
            "max_batch_size": config.max_num_seqs,
            "max_tokens_per_step": config.max_num_batched_tokens,
            "kv_cache_tokens": tokens,
            "kv_cache_dtype": s["dtype"] if kept == PRECISION[s["dtype"]] else kept,
            "kv_block_tokens": BLOCK_TOKENS,
            "prefix_caching": config.enable_prefix_caching,
            "chunked_prefill": split,
            "cuda_graphs": None,
            "async_scheduling": False,
            "attention_backend": "paged attention of the CPU plugin",
            "process_hops": 0,
            "seed": s["seed"],
        },
        native=arguments,
        kv_cache_tokens=tokens,
        kv_cache_bytes=kv_bytes,
        notes=(
            *(() if config.enable_prefix_caching else (POSITIONS,)),
            *((HELD,) if split else ()),
            *(() if tokens else (GROWING,)),
            *versions.notes(TITLE, version, OpenVinoAdapter.versions),
        ),
        unreported=adapter.unreported(load),
    )
