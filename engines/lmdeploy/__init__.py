"""LMDeploy: TurboMind, whose own threads run the loop, or with `backend=pytorch` the PyTorch engine."""

from __future__ import annotations

import dataclasses
import logging
from importlib import metadata
from typing import Any

from innerloop.engines.contract import Adapter, EngineInfo, Load, Probe, Session, UnsupportedSetting
from innerloop.engines.http.session import UNREPORTED as HTTP_UNREPORTED
from innerloop.engines.lmdeploy.http import open_http
from innerloop.engines.lmdeploy.pytorch import PyTorchSession
from innerloop.engines.lmdeploy.settings import (
    PYTORCH,
    RESERVED,
    TURBOMIND,
    backend_of,
    native_arguments,
    unhonoured,
)
from innerloop.engines.lmdeploy.turbomind import TurboMindSession
from innerloop.engines.support import versions
from innerloop.engines.support.device_memory import device_memory, free_share
from innerloop.engines.support.shapes import DTYPE_BYTES, kv_bytes_per_token

SESSIONS: dict[str, Any] = {TURBOMIND: TurboMindSession, PYTORCH: PyTorchSession}


class LmdeployAdapter(Adapter):
    """Hands a load to its backend's session. The phases of a step are inside the engine's threads and stay unknown."""

    name = "lmdeploy"
    title = "LMDeploy"
    layers = ("core", "http")
    with_tokenizer = ("http",)
    versions = ("0.18", "0.18")
    reserved = RESERVED
    out_of_memory = (
        "out_of_memory",  # TurboMind's status 11 by its name in lmdeploy/messages.py
        "no enough gpu memory",  # lmdeploy/pytorch/engine/executor/base.py
    )
    variables = ("LMDEPLOY_", "TM_")

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return native_arguments(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        if load.layer == "http":
            return HTTP_UNREPORTED
        unseen: tuple[str, ...] = SESSIONS[backend_of(load)].unreported
        return unseen

    def imports(self, load: Load) -> None:
        if load.layer == "http":  # whose server imports it
            return
        import lmdeploy  # noqa: F401
        import torch  # noqa: F401

        logging.getLogger("lmdeploy").setLevel(logging.ERROR)

    def open(self, load: Load) -> Session:
        if load.layer == "http":
            version = metadata.version("lmdeploy")
            with versions.explained(self.title, version, self.versions):
                return open_http(load, version, versions.notes(self.title, version, self.versions))
        import lmdeploy

        with versions.explained(self.title, lmdeploy.__version__, self.versions):
            return open_session(load, lmdeploy)


adapter = LmdeployAdapter()


def open_session(load: Load, lmdeploy: Any) -> Session:
    """Loads the backend's engine.

    Raises:
        UnsupportedSetting: this version has no such argument, or the engine would not do what was asked.
    """
    arguments, version = native_arguments(load), lmdeploy.__version__
    backend = arguments.pop("backend")
    kind = lmdeploy.TurbomindEngineConfig if backend == TURBOMIND else lmdeploy.PytorchEngineConfig
    known = {field.name for field in dataclasses.fields(kind)}
    versions.check_known(arguments, known, f"{kind.__name__} of LMDeploy {version} has no field")
    notes = versions.notes(adapter.title, version, adapter.versions)
    if load.settings["kv_memory_fraction"] is not None:
        arguments["cache_max_entry_count"] = free_share(load, *device_memory())
        notes += (
            f"cache_max_entry_count = {arguments['cache_max_entry_count']} of the memory left free by the weights, "
            f"which corresponds to kv_memory_fraction = {load.settings['kv_memory_fraction']} of the device",
        )
    logging.getLogger("lmdeploy").setLevel(logging.ERROR)
    session: TurboMindSession | PyTorchSession = SESSIONS[backend].open(
        load.checkpoint, kind(**arguments), load.trust_remote_code
    )
    try:
        found = session.effective()
        why = unhonoured(arguments, found)
        if why is not None:
            raise UnsupportedSetting(why)
        session.info = EngineInfo(
            version=version,
            stepping="observed",
            effective={**found, "seed": load.settings["seed"]},
            native={"backend": backend, **arguments},
            kv_cache_tokens=found["kv_cache_tokens"],
            kv_cache_bytes=kv_bytes(load, found),
            notes=(*notes, *session.notes),
            unreported=session.unreported,
        )
    except BaseException:
        session.close()
        raise
    return session


def kv_bytes(load: Load, found: dict[str, Any]) -> int | None:
    """Bytes of the KV cache on all devices; None where its tokens or the size of its numbers are not known."""
    tokens, ranks = found["kv_cache_tokens"], found["tensor_parallel"]
    kept = found["kv_cache_dtype"]
    if tokens is None or kept not in (*DTYPE_BYTES, "fp8", "fp8_e5m2"):
        return None
    return tokens * kv_bytes_per_token(load.config, kept, ranks) * ranks
