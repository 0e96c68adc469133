"""vLLM on layer `http`: its own server below this process, on loopback, and a streaming client in this process."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from typing import Any

from innerloop.engines.contract import EngineInfo, Load, Request, StepReport
from innerloop.engines.http import null as http_null
from innerloop.engines.http.client import HttpClient, ServerFailed, read_completion
from innerloop.engines.support import children, versions
from innerloop.engines.vllm.async_ import UNSEEN
from innerloop.engines.vllm.settings import engine_info

PATH = "/v1/completions"
POLL_S = 0.05
NOTES = (
    "a step is what the client received together; the engine's own steps are in another process",
    "the server is asked for token ids (return_token_ids), which a client of text would not ask for",
)


class HttpRung:
    """The worker's own process is the client; the server, and the engine core below it, are its children."""

    cannot_report = tuple(name for name in UNSEEN if name != "wait_ns")

    def load(self, arguments: dict[str, Any], load: Load, version: str) -> EngineInfo:
        self._model, port = f"innerloop-{secrets.token_hex(4)}", free_port()
        found = self._start(arguments, port)
        self._wait_until_ready(port)
        self._client = HttpClient(port, PATH, self.body, read_completion)
        able = http_null.capacity(load.settings["max_batch_size"], self.body, read_completion)
        return engine_info(version, found, arguments, load, process_hops=2, notes=NOTES, client=able)

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

    def submit(self, request: Request) -> None:
        self._client.submit(request)

    def step(self, due_ns: int | None = None) -> StepReport | None:
        report = self._client.step(due_ns)
        if report is None and (code := self._server.process.poll()) is not None:
            raise ServerFailed(f"vLLM's server ended with exit code {code}")
        return report

    def has_work(self) -> bool:
        return self._client.has_work()

    def close(self) -> None:
        client, server = getattr(self, "_client", None), getattr(self, "_server", None)
        if client is not None:
            client.close()
        if server is not None:
            server.end()

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
        told = {"arguments": {"generation_config": "vllm", **arguments}, "server": own}
        self._server = children.Child("vllm.server", json.dumps(told))
        found: dict[str, Any] = json.loads(self._server.ready())  # how long that may take is the harness's to say
        if "unsupported" in found:
            self._server.end()
            raise versions.UnknownArgument(found["unsupported"])
        return found

    def _wait_until_ready(self, port: int) -> None:
        """Returns once the server that answers is ours, which only it can tell: it was given a name to serve under."""
        while self._server.process.poll() is None:
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
            raise ServerFailed(f"another server listens on port {port}: {answer[:200]!r}")
        raise ServerFailed(f"vLLM's server ended with exit code {self._server.process.returncode} before it was ready")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
