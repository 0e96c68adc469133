"""SGLang's own server below the worker: `launch_server` with the arguments as the worker has them."""

from __future__ import annotations

import json
from typing import Any

from innerloop.engines.sglang import cpu_platform
from innerloop.engines.support import children, versions


def main(told: str, channel: str) -> None:
    """Serves until it is ended.

    told: JSON with the fields of ServerArgs. Once they are taken, a line of JSON says so; or which one there is not.
    """
    children.follow_parent()
    arguments: dict[str, Any] = json.loads(told)
    if arguments["device"] == "cpu":
        cpu_platform.register()
        cpu_platform.register_in_children()
    import sglang
    from sglang.srt.entrypoints.http_server import launch_server
    from sglang.srt.server_args import ServerArgs

    try:
        versions.check_known(
            arguments, ServerArgs.__struct_fields__, f"SGLang {sglang.__version__} has no server argument"
        )
    except versions.UnknownArgument as error:
        children.tell(channel, json.dumps({"unsupported": str(error)}))
        return
    children.tell(channel, "{}")
    made = ServerArgs(**arguments)
    made.resolve_once()  # as its own main does
    launch_server(made)
