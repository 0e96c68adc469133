"""A server below the worker: when it is ready, whose it is, how its end is told, and that none is left."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest

from innerloop.engines.contract import EngineInfo, Nothing
from innerloop.engines.http import null
from innerloop.engines.http import session as sessions
from innerloop.engines.http.protocols import COMPLETIONS, Wire
from innerloop.engines.http.serving import LAUNCH, Server, command, free_port, wait_until_ready
from innerloop.engines.http.session import HttpSession, open_served
from innerloop.engines.support import children
from innerloop.engines.support.failures import ServerFailed
from innerloop.engines.support.versions import UnknownArgument
from tests.engines.support.loads import make_load
from tests.waiting import until

NAME = "innerloop-1234"
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({"data": [{"id": sys.argv[2]}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def answering():
    """A server that answers each request with the status and body in its list; what it was asked is in the other."""
    said: list[tuple[int, bytes]] = [(200, b"{}")]
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            status, body = said[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, said, asked
    server.shutdown()
    server.server_close()


def made_server(port: int, **more: object) -> Server:
    server = Server(
        "A's server", LAUNCH, command([sys.executable, "-c", SERVER, str(port), NAME]), port, NAME, COMPLETIONS
    )
    return replace(server, **more)  # type: ignore[arg-type]


def child(code: int | None = None) -> children.Child:
    made = children.Child.__new__(children.Child)
    made.process = SimpleNamespace(poll=lambda: code, wait=lambda timeout: code)  # type: ignore[assignment]
    return made


def session(code: int | None = None, port: int = 1) -> HttpSession:
    made = HttpSession(("127.0.0.1", port), Wire(COMPLETIONS, NAME), "A's server", "/reset")
    made.server = child(code)
    return made


def test_a_server_of_somebody_else_on_the_port_is_not_taken_for_ours(answering):
    port, said, _ = answering
    said[0] = (200, json.dumps({"data": [{"id": "another"}]}).encode())
    with pytest.raises(ServerFailed, match="another server"):
        wait_until_ready(made_server(port), child())
    said[0] = (200, json.dumps({"data": [{"id": NAME}]}).encode())
    wait_until_ready(made_server(port), child())


def test_a_server_that_ends_before_it_is_ready_is_an_error():
    with pytest.raises(children.ChildFailed, match="A's server exited with code 3 before it was ready"):
        wait_until_ready(made_server(free_port()), child(3))


def test_a_server_that_ends_while_tokens_are_waited_for_is_an_error():
    made = session(code=-9)
    made._client = SimpleNamespace(step=lambda until_ns: Nothing.TIMED_OUT)  # type: ignore[assignment]
    with pytest.raises(children.ChildKilled, match="A's server was killed by SIGKILL"):
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
    made = session(code)
    made._client = Broken()  # type: ignore[assignment]
    if code is None:

        def lives(timeout: float) -> None:
            raise subprocess.TimeoutExpired("server", timeout)

        made.server.process.wait = lives  # type: ignore[union-attr,method-assign]
    with pytest.raises(kind, match=words):
        call(made)


@pytest.mark.parametrize(
    ("status", "body", "emptied"),
    [(200, b'{"success": true}', True), (200, b'{"success": false}', False), (404, b"{}", False)],
)
def test_the_prefix_cache_is_emptied_by_the_servers_own_path(answering, status, body, emptied):
    port, said, asked = answering
    said[0] = (status, body)
    made = session(port=port)
    assert made.reset_caches() is emptied
    assert asked == ["POST /reset"]


def test_without_a_path_the_prefix_cache_stays_and_a_server_that_is_gone_is_named():
    made = HttpSession(("127.0.0.1", free_port()), Wire(COMPLETIONS, NAME))
    assert made.reset_caches() is False
    with pytest.raises(ServerFailed, match="A's server did not empty its prefix cache"):
        session(port=free_port()).reset_caches()


def test_a_command_becomes_the_server_and_ends_with_the_session(monkeypatch):
    monkeypatch.setattr(null, "capacity", lambda batch, protocol: {"tokens_per_s": 1.0})
    gone: list[str] = []
    server = made_server(free_port())
    server.held.callback(gone.append, "files")
    opened = open_served(server, make_load(), lambda found: EngineInfo("1", effective={"a": 1}, notes=("own",)))
    assert opened.server is not None
    process = psutil.Process(opened.server.process.pid)
    until(lambda: SERVER in process.cmdline())
    assert opened.info.effective == {
        "a": 1,
        "protocol": "completions",
        "prompts_sent_as": "token ids",
        "tokens_counted_by": "token ids",
    }
    assert opened.info.stepping == "observed"
    assert opened.info.notes[0] == "own"
    assert "wait_ns" not in opened.info.unreported
    assert "prefill_tokens" in opened.info.unreported
    assert gone == []
    opened.close()
    assert not process.is_running()
    assert gone == ["files"]


def test_a_command_that_fails_leaves_nothing_and_is_named(monkeypatch):
    gone: list[str] = []
    server = made_server(free_port(), told=command([sys.executable, "-c", "raise SystemExit(5)"]))
    server.held.callback(gone.append, "files")
    with pytest.raises(children.ChildFailed, match="A's server exited with code 5 before it was ready"):
        open_served(server, make_load(), lambda found: EngineInfo("1"))
    assert gone == ["files"]


def test_a_program_that_is_not_there_is_named():
    server = made_server(free_port(), told=command(["no-such-server"]))
    with pytest.raises(children.ChildFailed, match="A's server exited with code 1 before it was ready"):
        open_served(server, make_load(), lambda found: EngineInfo("1"))


def test_an_argument_that_the_engine_does_not_have_is_a_refusal(monkeypatch):
    ready = SimpleNamespace(ready=lambda: json.dumps({"unsupported": "no argument 'x'"}))
    with pytest.raises(UnknownArgument, match="no argument 'x'"):
        made_server(1, announces=True).announced(ready)  # type: ignore[arg-type]
    assert made_server(1).announced(ready) == {}  # type: ignore[arg-type]
    assert sessions.counted(Wire(COMPLETIONS, "m", "/root")) == (
        "prompts are sent as token ids (POST /root/v1/completions); tokens are counted by token ids"
    )


def test_a_client_whose_capacity_cannot_be_measured_is_used_without_it(monkeypatch):
    def full(batch, protocol):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(null, "capacity", full)
    wire = Wire(COMPLETIONS, NAME)
    found = sessions.told(EngineInfo(version="1", stepping="driven", effective={}), wire, make_load())
    assert found.client is None
    assert found.notes[-1] == "what the HTTP client can take at most is unknown: [Errno 28] No space left on device"
