"""An engine's own server as a process below the worker, on 127.0.0.1."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from innerloop.engines.http.asking import ask
from innerloop.engines.http.client import Address
from innerloop.engines.http.protocols import Protocol
from innerloop.engines.http.stream import words
from innerloop.engines.support.children import Child
from innerloop.engines.support.failures import ServerFailed
from innerloop.engines.support.versions import UnknownArgument

HOST = "127.0.0.1"
POLL_S = 0.05
MODELS = "/v1/models"


@dataclass(frozen=True, slots=True)
class Server:
    """How an engine's server is started and asked.

    module, told: of this package, the module whose `main(told, channel)` becomes the server (`launch` is the one that
    becomes a command). model: what requests call the model. protocol: None: it is found out by asking the server.
    named: whether MODELS lists `model`, which only our own server does. ready: the path that answers 200 once the
    server serves. announces: whether the module tells a line of JSON once its engine is loaded. reset: the path that
    a POST to empties the prefix cache. held: files that go with it.
    """

    title: str
    module: str
    told: str
    port: int
    model: str
    protocol: Protocol | None = None
    named: bool = True
    ready: str = MODELS
    announces: bool = False
    reset: str | None = None
    held: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> Address:
        return HOST, self.port

    def announced(self, child: Child) -> dict[str, Any]:
        """What the module announces; empty where it announces nothing.

        Raises:
            UnknownArgument: the engine has no such argument.
            ChildFailed, ChildKilled: it ended first.
        """
        if not self.announces:
            return {}
        found: dict[str, Any] = json.loads(child.ready())  # how long that may take is the harness's to say
        if "unsupported" in found:
            raise UnknownArgument(found["unsupported"])
        return found


def command(arguments: Sequence[str], variables: Mapping[str, str] | None = None, without: Sequence[str] = ()) -> str:
    """`told` of module `http.launch`: a command, variables for it, and those that it must not have."""
    return json.dumps({"command": list(arguments), "variables": dict(variables or {}), "without": list(without)})


LAUNCH = "http.launch"


def flags(arguments: Mapping[str, Any], otherwise: Mapping[str, str]) -> list[str]:
    """A command line's options for arguments by name; None and false are left out, true is the option alone.

    otherwise: those that the command line calls something else.
    """
    line: list[str] = []
    for name, value in arguments.items():
        if value is None or value is False:
            continue
        option = "--" + otherwise.get(name, name.replace("_", "-"))
        line += [option] if value is True else [option, str(value)]
    return line


def start(server: Server) -> Child:
    return Child(server.module, server.told)


def wait_until_ready(server: Server, child: Child) -> None:
    """Returns once the server serves, and is ours: it lists the name that it was given.

    Raises:
        ChildFailed, ChildKilled: it ended first.
        ServerFailed: something else listens on its port.
    """
    while (ended := child.ended(server.title)) is None:
        try:
            status, answer = ask(server.address, "GET", MODELS if server.named else server.ready)
            if status == 200 and server.named:
                if server.model.encode() not in answer:
                    raise ServerFailed(f"another server is listening on port {server.port}: {words(answer)!r}")
                if server.ready != MODELS:
                    status, answer = ask(server.address, "GET", server.ready)
            if status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(POLL_S)
    raise type(ended)(f"{ended} before it was ready")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
        return port


def own_name() -> str:
    """A name for the model that no other server's has."""
    return f"innerloop-{secrets.token_hex(4)}"
