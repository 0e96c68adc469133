"""MLC-LLM on layer `http`: `mlc_llm serve` below this process, on loopback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from innerloop.engines.contract import EngineInfo, Load
from innerloop.engines.http.serving import LAUNCH, Server, command, free_port
from innerloop.engines.http.session import HttpSession, open_served
from innerloop.engines.mlc_llm.settings import LIBRARY, LIBRARY_FILE, MODEL, TITLE, native_arguments
from innerloop.engines.support import versions

# Of EngineConfig, as `--overrides` calls them (cli/serve.py).
OVERRIDES = {
    "max_num_sequence": "max_num_sequence",
    "max_total_sequence_length": "max_total_seq_length",
    "max_single_sequence_length": "context_window_size",
    "prefill_chunk_size": "prefill_chunk_size",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "max_history_size": "max_history_size",
    "tensor_parallel_shards": "tensor_parallel_shards",
}
DEBUG = "the server runs with --enable-debug: otherwise it does not accept ignore_eos"


def open_http(load: Load, version: str, known: tuple[str, str]) -> HttpSession:
    arguments = native_arguments(load)

    def info(found: dict[str, Any]) -> EngineInfo:
        return EngineInfo(version=version, native=arguments, notes=(*versions.notes(TITLE, version, known), DEBUG))

    return open_served(served(arguments, load, free_port()), load, info)


def served(arguments: dict[str, Any], load: Load, port: int) -> Server:
    model, library = load.prepared[MODEL], str(Path(load.prepared[LIBRARY]) / LIBRARY_FILE)
    overrides = ";".join(f"{theirs}={arguments[ours]}" for ours, theirs in OVERRIDES.items() if ours in arguments)
    line = [
        sys.executable, "-m", "mlc_llm", "serve", model, "--model-lib", library, "--device", load.device, "--mode",
        "server", "--host", "127.0.0.1", "--port", str(port), "--enable-debug", "--prefix-cache-mode",
        arguments["prefix_cache_mode"], "--prefill-mode", arguments.get("prefill_mode", "hybrid"), "--overrides",
        overrides,
    ]  # fmt: skip
    return Server(title=f"{TITLE}'s server", module=LAUNCH, told=command(line), port=port, model=model)
