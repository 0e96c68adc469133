"""SGLang on layer `http`: its own server below this process, on loopback, and a streaming client in this process."""

from __future__ import annotations

import json
from typing import Any

from innerloop.engines.contract import EngineInfo, Load
from innerloop.engines.http import protocols
from innerloop.engines.http.asking import document
from innerloop.engines.http.serving import Server, free_port, own_name
from innerloop.engines.http.session import HttpSession, open_served
from innerloop.engines.sglang.settings import CONTEXT_MARGIN, native_arguments
from innerloop.engines.support.shapes import DTYPE_BYTES, kv_bytes_per_token

ASKS_IDS = "the client requests token ids (return_token_ids), which a text client would not"


def open_http(load: Load, version: str, notes: tuple[str, ...]) -> HttpSession:
    arguments = native_arguments(load)
    server = served(arguments, free_port(), own_name())

    def info(found: dict[str, Any]) -> EngineInfo:
        return info_of(document(server.address, "/server_info"), arguments, load, version, notes)

    return open_served(server, load, info)


def served(arguments: dict[str, Any], port: int, name: str) -> Server:
    own = {"host": "127.0.0.1", "port": port, "served_model_name": name}
    return Server(
        title="SGLang's server",
        module="sglang.server",
        told=json.dumps({**arguments, **own}),
        port=port,
        model=name,
        protocol=protocols.COMPLETIONS,
        ready="/health",
        announces=True,
        reset="/flush_cache",
    )


def info_of(
    found: dict[str, Any], arguments: dict[str, Any], load: Load, version: str, notes: tuple[str, ...]
) -> EngineInfo:
    """What the server tells of itself at /server_info; what it does not tell is None."""
    tokens, kept = found.get("max_total_num_tokens"), found.get("kv_cache_dtype")
    dtype = load.settings["dtype"] if kept == "auto" else kept
    known = tokens is not None and (dtype in DTYPE_BYTES or str(dtype).startswith("fp8"))
    context, chunk, radix = found.get("context_length"), found.get("chunked_prefill_size"), "disable_radix_cache"
    return EngineInfo(
        version=version,
        effective={
            "dtype": found.get("dtype"),
            "quantization": found.get("quantization"),
            "tensor_parallel": found.get("tp_size"),
            "context_length": None if context is None else context - CONTEXT_MARGIN,
            "max_batch_size": found.get("max_running_requests"),
            "max_tokens_per_step": found.get("max_prefill_tokens") if chunk == -1 else chunk,
            "kv_cache_tokens": tokens,
            "kv_cache_dtype": kept,
            "kv_block_tokens": found.get("page_size"),
            "prefix_caching": None if radix not in found else not found[radix],
            "chunked_prefill": None if chunk is None else chunk != -1,
            "attention_backend": found.get("attention_backend"),
            "seed": found.get("random_seed"),
            "process_hops": 3,  # to the server, its scheduler and its detokenizer
        },
        native=arguments,
        kv_cache_tokens=tokens,
        kv_cache_bytes=tokens * kv_bytes_per_token(load.config, str(dtype)) if known and tokens else None,
        notes=(*notes, ASKS_IDS),
    )
