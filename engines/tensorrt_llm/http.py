"""TensorRT-LLM on layer `http`: `trtllm-serve` below this process, on loopback."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from typing import Any

from innerloop.engines.contract import EngineInfo, Load
from innerloop.engines.http.serving import LAUNCH, Server, command, free_port
from innerloop.engines.http.session import HttpSession, open_served
from innerloop.engines.support import versions
from innerloop.engines.tensorrt_llm.settings import TITLE, VERSIONS, native_arguments

ON_THE_LINE = ("model", "backend", "skip_tokenizer_init", "trust_remote_code")  # not in the file of arguments
SINGLE_PROCESS = "TLLM_WORKER_USE_SINGLE_PROCESS"  # of layer core; its server has the executor in a process of its own


def open_http(load: Load, version: str) -> HttpSession:
    arguments = native_arguments(load)
    held = ExitStack()
    try:
        path = written(arguments, held)
        server = served(load, path, free_port(), held)
    except BaseException:
        held.close()
        raise

    def info(found: dict[str, Any]) -> EngineInfo:
        return EngineInfo(version=version, native=arguments, notes=versions.notes(TITLE, version, VERSIONS))

    return open_served(server, load, info)


def written(arguments: dict[str, Any], held: ExitStack) -> str:
    """A file of the arguments of LLM, which win over what its command line would choose. JSON is YAML too."""
    file, path = tempfile.mkstemp(suffix=".yaml", prefix="innerloop-trtllm-")
    held.callback(os.unlink, path)
    with open(file, "w", encoding="utf-8") as out:
        json.dump({name: value for name, value in arguments.items() if name not in ON_THE_LINE}, out)
    return path


def served(load: Load, path: str, port: int, held: ExitStack) -> Server:
    line = [
        sys.executable, "-m", "tensorrt_llm.commands.serve", "serve", load.checkpoint, "--host", "127.0.0.1", "--port",
        str(port), "--backend", "pytorch", "--log_level", "error", "--extra_llm_api_options", path,
        *(["--trust_remote_code"] if load.trust_remote_code else []),
    ]  # fmt: skip
    name = os.path.basename(os.path.normpath(load.checkpoint))  # OpenAIServer calls a folder by its last part
    return Server(
        title="TensorRT-LLM's server",
        module=LAUNCH,
        told=command(line, without=[SINGLE_PROCESS]),
        port=port,
        model=name,
        ready="/health",
        held=held,
    )
