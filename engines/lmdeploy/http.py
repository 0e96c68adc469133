"""LMDeploy on layer `http`: its own `api_server` below this process, on loopback."""

from __future__ import annotations

import sys
from typing import Any

from innerloop.engines.contract import EngineInfo, Load
from innerloop.engines.http.serving import LAUNCH, Server, command, flags, free_port, own_name
from innerloop.engines.http.session import HttpSession, open_served
from innerloop.engines.lmdeploy.settings import native_arguments
from innerloop.engines.support.device_memory import device_memory, free_share

OTHERWISE = {"block_size": "cache-block-seq-len"}  # fields that are called something else on its command line
MAY_CHOOSE = "api_server falls back to its PyTorch engine for models that TurboMind does not support (autoget_backend)"


def open_http(load: Load, version: str, notes: tuple[str, ...]) -> HttpSession:
    arguments = native_arguments(load)
    if load.settings["kv_memory_fraction"] is not None:
        arguments["cache_max_entry_count"] = free_share(load, *device_memory())
    if arguments["backend"] == "turbomind":
        notes += (MAY_CHOOSE,)

    def info(found: dict[str, Any]) -> EngineInfo:
        return EngineInfo(version=version, native=arguments, notes=notes)

    return open_served(served(arguments, load, free_port(), own_name()), load, info)


def served(arguments: dict[str, Any], load: Load, port: int, name: str) -> Server:
    own = {
        "server_name": "127.0.0.1",
        "server_port": port,
        "model_name": name,
        "generation_config": "lmdeploy",  # else a model's generation_config.json fills in what a request leaves open
        "log_level": "ERROR",
        "trust_remote_code": load.trust_remote_code,
    }
    named = flags({**arguments, **own}, OTHERWISE)
    return Server(
        title="LMDeploy's server",
        module=LAUNCH,
        told=command([sys.executable, "-m", "lmdeploy", "serve", "api_server", load.checkpoint, *named]),
        port=port,
        model=name,
        ready="/health",
    )
