"""SGLang, at two layers: its `Scheduler` stepped in this process, a pass of its event loop at a time; its server."""

from __future__ import annotations

import contextlib
from importlib import metadata
from pathlib import Path
from typing import Any

from innerloop.engines.contract import Adapter, EngineInfo, Load, Probe, Session
from innerloop.engines.http.session import UNREPORTED as HTTP_UNREPORTED
from innerloop.engines.sglang import cpu_platform
from innerloop.engines.sglang.core import IN_ORDER_UNREPORTED, UNREPORTED, CoreSession
from innerloop.engines.sglang.http import open_http
from innerloop.engines.sglang.settings import CONTEXT_MARGIN, ON_CPUS, RESERVED, native_arguments
from innerloop.engines.support import versions
from innerloop.engines.support.shapes import DTYPE_BYTES, kv_bytes_per_token


class SglangAdapter(Adapter):
    """Overlapped scheduling is the engine's default; `disable_overlap_schedule=true` runs one batch after the other."""

    name = "sglang"
    title = "SGLang"
    layers = ("core", "http")
    versions = ("0.5.23", "0.5.23")
    reserved = RESERVED
    out_of_memory = (
        "not enough memory. please try to increase --mem-fraction-static",  # pool_configurator.py
        "loaded weights leave no gpu memory for the kv cache",  # kv_cache_configurator.py
    )
    variables = ("SGLANG_", "SGL_", "FLASHINFER_", "TRTLLM_", "CUTE_DSL_")
    with_tokenizer = ("http",)

    def architectures(self, device: str) -> tuple[str, ...] | None:
        return ON_CPUS if device == "cpu" else None

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return native_arguments(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        if load.layer == "http":
            return HTTP_UNREPORTED
        return IN_ORDER_UNREPORTED if load.engine_args.get("disable_overlap_schedule") else UNREPORTED

    def imports(self, load: Load) -> None:
        if load.layer == "http":  # whose server imports it
            return
        if load.device == "cpu":
            cpu_platform.register()
        import sglang.srt.managers.scheduler  # noqa: F401

    def open(self, load: Load) -> Session:
        version = metadata.version("sglang")
        with versions.explained(self.title, version, self.versions):
            if load.layer == "http":
                return open_http(load, version, notes_of(load, version))
            return open_session(load, version)


adapter = SglangAdapter()


def open_session(load: Load, version: str) -> Session:
    """Makes a scheduler as SGLang's launcher does, and what its event loop sets up before the first pass.

    Raises:
        UnsupportedSetting: this version has no such argument.
    """
    from sglang.srt.managers import scheduler
    from sglang.srt.runtime_context import SpawnRanks, publish, spawn_world_rank
    from sglang.srt.server_args import PortArgs, ServerArgs
    from sglang.srt.utils import configure_logger

    arguments = native_arguments(load)
    versions.check_known(arguments, ServerArgs.__struct_fields__, f"SGLang {version} has no server argument")
    args = ServerArgs(**arguments)
    configure_logger(args)
    args.resolve_once()
    with contextlib.ExitStack() as held:
        ports = PortArgs.init_new(args)
        held.callback(unlink_sockets, ports)
        held.callback(unlink_snapshot, ports)
        rank = spawn_world_rank(args, tp_rank=0, pp_rank=0)
        publish(args, role="scheduler", ranks=SpawnRanks(world_rank=rank, gpu_id=args.base_gpu_id))
        made = scheduler.Scheduler(args, ports)
        session = CoreSession(made)
        held.callback(session.release)
        scheduler.dispatch_event_loop = lambda _: None  # the passes are ours
        made.run_event_loop()
        held.enter_context(made.device_module.StreamContext(made.schedule_stream))
        held.enter_context(scheduler.DynamicGradMode())
        session.info = info_of(session, made, args.resolved_dict(), arguments, load, version)
        session.held = held.pop_all()
    return session


def unlink_sockets(ports: Any) -> None:
    """Removes the sockets to processes that never were."""
    for address in vars(ports).values():
        if isinstance(address, str) and address.startswith("ipc://"):
            Path(address.removeprefix("ipc://")).unlink(missing_ok=True)


def unlink_snapshot(ports: Any) -> None:
    """Removes what a scheduler keeps in shared memory for its router, also one that failed in its start."""
    from sglang.srt.managers.load_snapshot import shm_path_for

    Path(shm_path_for(ports.instance_id)).unlink(missing_ok=True)


def info_of(
    session: CoreSession, scheduler: Any, found: dict[str, Any], arguments: dict[str, Any], load: Load, version: str
) -> EngineInfo:
    """What is told of the loaded engine; `found` are the arguments as it resolved them."""
    runner, tokens = scheduler.tp_worker.model_runner, scheduler.max_total_num_tokens
    dtype = str(scheduler.model_config.dtype).removeprefix("torch.")
    kept = str(runner.kv_cache_dtype).removeprefix("torch.")  # of the KV cache; a checkpoint may name its own
    known = kept in DTYPE_BYTES or kept.startswith("float8")
    return EngineInfo(
        version=version,
        effective={
            "dtype": dtype,
            "quantization": scheduler.model_config.quantization,
            "tensor_parallel": found["tp_size"],
            "context_length": scheduler.model_config.context_len - CONTEXT_MARGIN,
            "max_batch_size": scheduler.max_running_requests,
            "max_tokens_per_step": scheduler.chunked_prefill_size or scheduler.max_prefill_tokens,
            "kv_cache_tokens": tokens,
            "kv_cache_dtype": kept,
            "kv_block_tokens": scheduler.page_size,
            "prefix_caching": not scheduler.disable_radix_cache,
            "chunked_prefill": scheduler.chunked_prefill_size is not None,
            "cuda_graphs": runner.decode_cuda_graph_runner not in (None, runner.eager_runner),
            "async_scheduling": session.overlap,
            "attention_backend": found["attention_backend"],
            "seed": scheduler.random_seed,
        },
        native=arguments,
        kv_cache_tokens=tokens,
        kv_cache_bytes=tokens * kv_bytes_per_token(load.config, kept) if known else None,
        weights_bytes=weights_bytes(runner, load.device),
        notes=notes_of(load, version),
        unreported=session.unreported,
    )


def notes_of(load: Load, version: str) -> tuple[str, ...]:
    """What there is to know of a load on any layer."""
    notes = versions.notes(adapter.title, version, adapter.versions)
    if load.device == "cpu":
        notes += (cpu_platform.SUBSTITUTED,)
    if load.settings["kv_memory_fraction"] is not None:
        notes += (
            "mem_fraction_static covers weights and KV cache; activations and CUDA graphs need additional memory",
        )
    return notes


def weights_bytes(runner: Any, device: str) -> int | None:
    """On a CPU what SGLang calls its weights' memory is what the whole machine took meanwhile: counted here instead."""
    if device == "cpu":
        return sum(part.nbytes for part in runner.model.parameters())
    return int(runner.weight_load_mem_usage * 2**30) or None
