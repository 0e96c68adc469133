"""MLC-LLM: `SyncMLCEngine` stepped in this process, on a model that was converted and compiled beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib import metadata
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from innerloop.engines.contract import Adapter, EngineInfo, Load, Preparation, Probe, Session
from innerloop.engines.http.session import UNREPORTED as HTTP_UNREPORTED
from innerloop.engines.mlc_llm.http import open_http
from innerloop.engines.mlc_llm.session import Limits, MlcSession, Stream
from innerloop.engines.mlc_llm.settings import (
    LIBRARY,
    LIBRARY_FILE,
    MODEL,
    NOT_ENGINE_CONFIG,
    PAGE_TOKENS,
    RESERVED,
    TITLE,
    has_cuda_graphs,
    native_arguments,
    preparation,
)
from innerloop.engines.support import versions
from innerloop.engines.support.shapes import kv_bytes_per_token

UNREPORTED = (
    "prefill_tokens", "running", "waiting", "preempted", "kv_usage", "schedule_ns", "prepare_ns", "execute_ns",
    "wait_ns", "sample_ns", "update_ns",
)  # fmt: skip


class MlcAdapter(Adapter):
    """Loads what `preparation` made: a model's folder and the library compiled for it."""

    name = "mlc_llm"
    title = TITLE
    layers = ("core", "http")
    with_tokenizer = ("http",)
    versions = ("0.26", "0.26")
    reserved = RESERVED
    out_of_memory = ("cuda: out of memory", "insufficient gpu memory")  # TVM's, and its own estimate's (config.cc)
    variables = ("MLC_", "TVM_")

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return native_arguments(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        """What a prefix cache held is told of a request when it has ended, not in a step."""
        if load.layer == "http":
            return HTTP_UNREPORTED
        return (*UNREPORTED, "cached_tokens") if load.settings["prefix_caching"] else UNREPORTED

    def preparation(self, load: Load) -> Sequence[Preparation]:
        return preparation(load)

    def imports(self, load: Load) -> None:
        if load.layer != "http":  # whose server imports it
            import mlc_llm.serve.sync_engine  # noqa: F401

    def open(self, load: Load) -> Session:
        if load.layer == "http":
            names = packages_distributions().get("mlc_llm", [])
            version = metadata.version(names[0])
            with versions.explained(self.title, version, self.versions):
                return open_http(load, version, self.versions)
        import mlc_llm
        from mlc_llm.serve.config import EngineConfig

        version = version_of(mlc_llm)
        arguments = native_arguments(load)
        config = {name: value for name, value in arguments.items() if name not in NOT_ENGINE_CONFIG}
        with versions.explained(self.title, version, self.versions):
            known = {field.name for field in fields(EngineConfig)}
            versions.check_known(config, known, f"{self.title} {version} has no setting")
            return open_session(EngineConfig(**{"verbose": False, **config}), version, arguments, load)


adapter = MlcAdapter()


def open_session(config: Any, version: str, arguments: dict[str, Any], load: Load) -> MlcSession:
    """Loads the model that was prepared, with an `EngineConfig`."""
    from mlc_llm.serve.sync_engine import SyncMLCEngine

    stream = Stream()
    engine = SyncMLCEngine(
        model=load.prepared[MODEL],
        device=load.device,
        model_lib=str(Path(load.prepared[LIBRARY]) / LIBRARY_FILE),
        mode="server",
        engine_config=config,
        request_stream_callback=stream,
    )
    try:
        model = engine.model_config_dicts[0]
        sliding = model["sliding_window_size"] != -1  # then not all of a request is kept
        total = None if sliding else arguments.get("max_total_sequence_length")
        limits = Limits(load.settings["context_length"], total)
        session = MlcSession(engine, stream, limits, arguments["seed"], arguments["prefix_cache_mode"] != "disable")
        session.info = engine_info(version, model["quantization"], arguments, load)
    except BaseException:
        engine.reset()
        raise
    return session


def engine_info(version: str, quantization: str, arguments: dict[str, Any], load: Load) -> EngineInfo:
    s, ranks = load.settings, load.settings["tensor_parallel"]
    tokens = arguments.get("max_total_sequence_length")
    return EngineInfo(
        version=version,
        effective={
            "dtype": s["dtype"],
            "quantization": quantization,
            "tensor_parallel": ranks,
            "context_length": s["context_length"],
            # CanPrefill (batch_prefill_base.cc)
            "max_batch_size": min(arguments["max_num_sequence"], arguments["prefill_chunk_size"]),
            "max_tokens_per_step": arguments["prefill_chunk_size"],
            "kv_cache_tokens": tokens,  # what it makes of a share of the memory is only in its log
            "kv_block_tokens": PAGE_TOKENS,
            "prefix_caching": arguments["prefix_cache_mode"] != "disable",
            "chunked_prefill": True,
            "cuda_graphs": has_cuda_graphs(arguments["opt"]),
            "async_scheduling": False,
            "attention_backend": None,
            "seed": arguments["seed"],
        },
        native=arguments,
        kv_cache_tokens=tokens,
        kv_cache_bytes=tokens * kv_bytes_per_token(load.config, s["dtype"], ranks) * ranks if tokens else None,
        notes=versions.notes(TITLE, version, MlcAdapter.versions),
        unreported=adapter.unreported(load),
    )


def version_of(package: Any) -> str:
    """The version of the distribution that holds the package, whose own one is never set (libinfo.py)."""
    names = packages_distributions().get("mlc_llm", [])
    return metadata.version(names[0]) if names else str(package.__version__)
