"""vLLM's rung http without vLLM: what it asks the server for, what it takes as its own, and the server's arguments."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import types
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest

from innerloop.engines import vllm
from innerloop.engines.contract import Nothing, Request
from innerloop.engines.http.client import ServerFailed
from innerloop.engines.support import children
from innerloop.engines.vllm import server as vllm_server
from innerloop.engines.vllm.http import HttpSession, free_port
from tests.engines.support.loads import make_load


@pytest.fixture
def models():
    """A server that says that it serves the model `named[0]`."""
    named = ["another"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"data": [{"id": named[0]}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, named
    server.shutdown()
    server.server_close()


def rung(code: int | None = None) -> HttpSession:
    made = HttpSession()
    made._model = "innerloop-1234"
    made._server = children.Child.__new__(children.Child)
    made._server.process = SimpleNamespace(poll=lambda: code, wait=lambda timeout: code)  # type: ignore[assignment]
    return made


def test_the_request_is_token_ids_and_asks_for_exactly_so_many_streamed_as_ids():
    asked = json.loads(rung().body(Request(0, [3, 4, 5], 17)))
    assert asked["prompt"] == [3, 4, 5]
    assert asked["model"] == "innerloop-1234"
    assert (asked["max_tokens"], asked["temperature"], asked["ignore_eos"]) == (17, 0.0, True)
    assert asked["stream"] is asked["return_token_ids"] is True


def test_a_server_of_somebody_else_on_the_port_is_not_taken_for_ours(models):
    port, named = models
    with pytest.raises(ServerFailed, match="another server"):
        rung()._wait_until_ready(port)
    named[0] = "innerloop-1234"
    rung()._wait_until_ready(port)


@pytest.mark.parametrize(("given", "used"), [({}, "vllm"), ({"generation_config": "auto"}, "auto")])
def test_the_model_s_own_sampling_defaults_are_left_out_unless_asked_for(monkeypatch, given, used):
    told: list[dict] = []

    class Child:
        def __init__(self, module: str, what: str) -> None:
            told.append(json.loads(what))

        def ready(self) -> str:
            return "{}"

    monkeypatch.setattr(children, "Child", Child)
    rung()._start({"model": "m", **given}, 1234)
    assert told[0]["arguments"] == {"model": "m", "generation_config": used}


def test_a_key_of_the_user_s_does_not_shut_out_the_client(monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    monkeypatch.setattr(vllm, "installed_version", lambda: "0.33.0")
    vllm.adapter.imports(replace(make_load(), layer="http"))
    assert "VLLM_API_KEY" not in os.environ


def test_a_server_that_ends_before_it_is_ready_is_an_error():
    with pytest.raises(children.ChildFailed, match="vLLM's server exited with code 3 before it was ready"):
        rung(code=3)._wait_until_ready(free_port())


def test_a_server_that_ends_while_tokens_are_waited_for_is_an_error():
    made = rung(code=-9)
    made._client = SimpleNamespace(step=lambda until_ns: Nothing.TIMED_OUT)  # type: ignore[assignment]
    with pytest.raises(children.ChildKilled, match="vLLM's server was killed by SIGKILL"):
        made.step(None)


class Broken:
    """A client whose connection broke."""

    def step(self, until_ns: int | None) -> Nothing:
        raise ServerFailed("the server closed the stream")

    def submit(self, prepared: object) -> None:
        raise ServerFailed("the server on port 1 cannot be reached")


@pytest.mark.parametrize("call", [lambda made: made.step(None), lambda made: made.submit(())])
@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (-9, children.ChildKilled, "was killed by SIGKILL"),
        (1, children.ChildFailed, "exited with code 1"),
        (None, ServerFailed, "the server "),
    ],
)
def test_a_connection_that_breaks_is_blamed_on_the_servers_end_where_it_ended(call, code, kind, words):
    made = rung(code)
    made._client = Broken()  # type: ignore[assignment]
    if code is None:

        def lives(timeout: float) -> None:
            raise subprocess.TimeoutExpired("server", timeout)

        made._server.process.wait = lives  # type: ignore[union-attr,method-assign]
    with pytest.raises(kind, match=words):
        call(made)


@pytest.mark.parametrize("place", vllm_server.ARGUMENT_MODULES)
def test_the_servers_arguments_are_its_defaults_but_for_those_given_wherever_it_keeps_them(monkeypatch, place):
    """The engine's arguments reach it as they are, as on the other layers, and not by way of text."""
    for name in (*vllm_server.ARGUMENT_MODULES, "vllm.utils.argparse_utils"):
        parts = name.split(".")
        for k in range(1, len(parts)):
            package = types.ModuleType(".".join(parts[:k]))
            package.__path__ = []
            monkeypatch.setitem(sys.modules, ".".join(parts[:k]), package)
    checked: list[argparse.Namespace] = []

    def make_arg_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.add_argument("--host")
        parser.add_argument("--max-num-seqs", type=int, default=128)
        parser.add_argument("--uvicorn-log-level", default="info")
        return parser

    module = types.ModuleType(place)
    module.make_arg_parser = make_arg_parser  # type: ignore[attr-defined]
    module.validate_parsed_serve_args = checked.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, place, module)
    parsers = types.ModuleType("vllm.utils.argparse_utils")
    parsers.FlexibleArgumentParser = argparse.ArgumentParser  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm.utils.argparse_utils", parsers)
    made = vllm_server.server_arguments({"host": "127.0.0.1", "max_num_seqs": 4, "compilation_config": {"mode": 3}})
    assert vars(made) == {
        "host": "127.0.0.1",
        "max_num_seqs": 4,
        "uvicorn_log_level": "info",
        "compilation_config": {"mode": 3},
    }
    assert checked == [made]


@pytest.mark.parametrize(("code", "success"), [(200, True), (200, False), (404, True)])
def test_the_servers_prefix_cache_is_emptied_by_its_own_path(code, success):
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            body = json.dumps({"success": success}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    made = HttpSession()
    made._port = server.server_address[1]
    try:
        assert made.reset_caches() is (code == 200 and success)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == ["/reset_prefix_cache"]
