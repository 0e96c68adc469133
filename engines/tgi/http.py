"""TGI on layer `http`: its own launcher, router and model server below this process, on loopback.

Here its router batches, by its own rules. It takes prompts as text only, and cannot ignore the end of a sequence.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from innerloop.engines.contract import EngineInfo, Load, UnsupportedSetting
from innerloop.engines.http.asking import document
from innerloop.engines.http.serving import LAUNCH, Server, command, flags, free_port
from innerloop.engines.http.session import HttpSession, open_served
from innerloop.engines.support.refusals import refuse
from innerloop.engines.support.shapes import is_quantized, keeps_fp8

LAUNCHER = "text-generation-launcher"
MODEL = "tgi"  # its paths take any name
ENDS = "TGI's router cannot ignore EOS: a request that hits it fails the run (wrong_token_count)"
MANY = 1 << 14  # requests that may wait: its own limit of 128 would refuse more
CHOSEN_FOR_CORE = (  # where no router runs
    "PREFIX_CACHING", "PREFILL_CHUNKING", "ATTENTION", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip


def launcher_arguments(load: Load) -> dict[str, Any]:
    """The common settings as arguments of its launcher, then the user's own, which win."""
    s, cpu = load.settings, load.device == "cpu"
    refuse(
        "TGI",
        s,
        (
            ("dtype", s["dtype"] == "float32" and not cpu, "runs float16 or bfloat16 on a GPU"),
            ("quantization", cpu and s["quantization"] is not None, "supports only unquantized checkpoints on a CPU"),
            ("cuda_graphs", cpu and bool(s["cuda_graphs"]), "has no CUDA graphs on a CPU"),
            ("kv_cache_dtype", cpu and keeps_fp8(s), "keeps the KV cache in the model's dtype on a CPU"),
        ),
    )
    arguments: dict[str, Any] = {
        "model_id": load.checkpoint,
        "num_shard": s["tensor_parallel"],
        "quantize": None if is_quantized(load.config) else s["quantization"],
        "dtype": None if s["dtype"] == "float32" or s["quantization"] else s["dtype"],
        "kv_cache_dtype": "fp8_e4m3fn" if keeps_fp8(s) else None,
        "max_concurrent_requests": MANY,
        "max_input_tokens": s["context_length"] - 1,
        "max_total_tokens": s["context_length"],
        "max_batch_prefill_tokens": s["max_tokens_per_step"],
        "max_batch_total_tokens": s["kv_cache_tokens"],
        "max_batch_size": s["max_batch_size"],
        "cuda_memory_fraction": s["kv_memory_fraction"],
        "cuda_graphs": "0" if s["cuda_graphs"] is False else None,
        "trust_remote_code": load.trust_remote_code,
    }
    return {**arguments, **load.engine_args}


def open_http(load: Load) -> HttpSession:
    arguments = launcher_arguments(load)
    server = served(arguments, load, free_port())

    def info(found: dict[str, Any]) -> EngineInfo:
        told = document(server.address, "/info")
        effective = {
            "context_length": told.get("max_total_tokens"),
            "kv_cache_tokens": told.get("max_batch_total_tokens"),
        }
        return EngineInfo(version=told.get("version"), effective=effective, native=arguments, notes=(ENDS,))

    return open_served(server, load, info)


def served(arguments: dict[str, Any], load: Load, port: int) -> Server:
    own = {"hostname": "127.0.0.1", "port": port, "usage_stats": "off"}
    variables = {"PREFIX_CACHING": str(int(load.settings["prefix_caching"]))}
    if load.settings["chunked_prefill"] is not None:
        variables["PREFILL_CHUNKING"] = str(int(load.settings["chunked_prefill"]))
    return Server(
        title="TGI's server",
        module=LAUNCH,
        told=command([program(), *flags({**arguments, **own}, {})], variables, without=CHOSEN_FOR_CORE),
        port=port,
        model=MODEL,
        named=False,
        ready="/health",
    )


def program() -> str:
    """Its launcher: beside the interpreter, else on the path.

    Raises:
        UnsupportedSetting: it is not installed.
    """
    beside = Path(sys.executable).with_name(LAUNCHER)
    found = str(beside) if beside.is_file() else shutil.which(LAUNCHER)
    if found is None:
        raise UnsupportedSetting(
            f"the http layer needs {LAUNCHER}, which is neither next to {sys.executable} nor on PATH"
        )
    return found
