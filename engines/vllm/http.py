"""vLLM on layer `http`: its own server below this process, on loopback, and a streaming client in this process."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from innerloop.engines.contract import Load, Nothing, Request, Session, StepReport
from innerloop.engines.http import null as http_null
from innerloop.engines.http.client import HttpClient, ServerFailed, read_completion
from innerloop.engines.support import children, versions
from innerloop.engines.vllm.async_ import UNSEEN
from innerloop.engines.vllm.settings import engine_info

PATH = "/v1/completions"
POLL_S = 0.05
RESET_S = 60.0
ENDING_S = 2.0  # from a connection that breaks to the end of a server that dies
SERVER = "vLLM's server"
NOTES = (
    "a step is a group of tokens that the client received together; the engine's own steps run in another process",
    "the client requests token ids (return_token_ids), which a text client would not",
)


class HttpSession(Session):
    """The worker's own process is the client; the server, and the engine core below it, are its children."""

    unreported = tuple(name for name in UNSEEN if name != "wait_ns")

    @classmethod
    def open(cls, arguments: dict[str, Any], load: Load, version: str) -> HttpSession:
        session = cls()
        try:
            session._port = port = free_port()
            found = session._start(arguments, port)
            session._wait_until_ready(port)
            session._client = HttpClient(port, PATH, session.body, read_completion)
            able = http_null.capacity(load.settings["max_batch_size"], session.body, read_completion)
        except BaseException:
            session.close()
            raise
        info = engine_info(version, found, arguments, load, process_hops=2, notes=NOTES)
        session.info = replace(info, stepping="observed", unreported=cls.unreported, client=able)
        return session

    def __init__(self) -> None:
        self._model = f"innerloop-{secrets.token_hex(4)}"
        self._server: children.Child | None = None
        self._client: HttpClient | None = None
        self._port = 0

    def body(self, request: Request) -> bytes:
        asked = {
            "model": self._model,
            "prompt": request.prompt,
            "max_tokens": request.output_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }
        return json.dumps(asked, separators=(",", ":")).encode()

    def prepare(self, request: Request) -> Any:
        assert self._client is not None
        return self._client.prepare(request)

    def submit(self, prepared: Any) -> None:
        assert self._client is not None
        with self._told_how_it_ended():
            self._client.submit(prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        assert self._client is not None
        assert self._server is not None
        with self._told_how_it_ended():
            report = self._client.step(until_ns)
        if isinstance(report, Nothing) and (ended := self._server.ended(SERVER)) is not None:
            raise ended
        return report

    @contextmanager
    def _told_how_it_ended(self) -> Iterator[None]:
        """What the client makes of a server that is gone is a connection that broke."""
        try:
            yield
        except ServerFailed as error:
            ended = None if self._server is None else self._server.ended(SERVER, ENDING_S)
            if ended is None:
                raise
            raise ended from error

    def has_work(self) -> bool:
        return self._client is not None and self._client.has_work()

    def reset_caches(self) -> bool:
        """Asks the server, which has a path for it in its developers' mode (`server.py`)."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=RESET_S)
        try:
            connection.request("POST", "/reset_prefix_cache")
            response = connection.getresponse()
            told = response.read()
        finally:
            connection.close()
        return response.status == 200 and b"false" not in told.lower()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._server is not None:
            self._server.end()

    # ---------------------------------------------------------------- the server

    def _start(self, arguments: dict[str, Any], port: int) -> dict[str, Any]:
        """Starts the server and waits for its engine; returns what its settings became."""
        own = {
            "host": "127.0.0.1",
            "port": port,
            "served_model_name": [self._model],
            "disable_uvicorn_access_log": True,
            "uvicorn_log_level": "warning",
        }
        # Else a model's generation_config.json fills in what a request leaves open (a repetition penalty, fewer tokens
        # at most), which the other layers do not do.
        job = {"arguments": {"generation_config": "vllm", **arguments}, "server": own}
        self._server = children.Child("vllm.server", json.dumps(job))
        found: dict[str, Any] = json.loads(self._server.ready())  # how long that may take is the harness's to say
        if "unsupported" in found:
            self._server.end()
            raise versions.UnknownArgument(found["unsupported"])
        return found

    def _wait_until_ready(self, port: int) -> None:
        """Returns once the server that answers is ours, which only it can tell: it was given a name to serve under."""
        assert self._server is not None
        while (ended := self._server.ended(SERVER)) is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", "/v1/models")
                answer = connection.getresponse().read()
            except OSError:
                time.sleep(POLL_S)
                continue
            finally:
                connection.close()
            if self._model.encode() in answer:
                return
            raise ServerFailed(f"another server is listening on port {port}: {answer[:200]!r}")
        raise type(ended)(f"{ended} before it was ready")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
