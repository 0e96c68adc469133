"""vLLM on layer `http`: its own server below this process, on loopback, and a streaming client in this process."""

from __future__ import annotations

import json
from typing import Any

from innerloop.engines.contract import EngineInfo, Load
from innerloop.engines.http import protocols
from innerloop.engines.http.serving import Server, free_port, own_name
from innerloop.engines.http.session import UNREPORTED, HttpSession, open_served
from innerloop.engines.vllm.settings import engine_info

ASKS_IDS = "the client requests token ids (return_token_ids), which a text client would not"


class HttpLayer:
    """Opens the layer."""

    unreported = UNREPORTED

    @staticmethod
    def open(arguments: dict[str, Any], load: Load, version: str) -> HttpSession:
        def info(found: dict[str, Any]) -> EngineInfo:
            return engine_info(version, found, arguments, load, process_hops=2, notes=(ASKS_IDS,))

        return open_served(served(arguments, free_port(), own_name()), load, info)


def served(arguments: dict[str, Any], port: int, name: str) -> Server:
    """Its server (`server.py`), which tells what its settings became, and has a path that empties its prefix cache in
    its developers' mode."""
    own = {
        "host": "127.0.0.1",
        "port": port,
        "served_model_name": [name],
        "disable_uvicorn_access_log": True,
        "uvicorn_log_level": "warning",
    }
    # Else a model's generation_config.json fills in what a request leaves open (a repetition penalty, fewer tokens
    # at most), which the other layers do not do.
    job = {"arguments": {"generation_config": "vllm", **arguments}, "server": own}
    return Server(
        title="vLLM's server",
        module="vllm.server",
        told=json.dumps(job),
        port=port,
        model=name,
        protocol=protocols.COMPLETIONS,
        announces=True,
        reset="/reset_prefix_cache",
    )
