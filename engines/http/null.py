"""What the HTTP client can take: a server in a process of its own that answers the same streams at once.

It computes nothing and waits for nothing: of all open streams, one after the other, it sends the next token's event as
soon as the last one's is gone, each in a chunk and a system call of its own, as a real server does. The client is
driven by the same loop and recorder as in a run. The rate that comes out is at most the client's capacity: where the
null server is the slower of the two, the client could take more.
"""

from __future__ import annotations

import json
import selectors
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innerloop.engines.contract import Request
from innerloop.engines.http.client import HttpClient, Read
from innerloop.engines.support import children

AT_ONCE = 16  # streams, at most: fewer than in most runs, since a client gains from reading many of them at a time
REQUESTS = 512
OUTPUT_TOKENS = 64
PROMPT_TOKENS = 64
START_S = 30.0

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def capacity(batch: int, body: Callable[[Request], bytes], read: Read) -> dict[str, Any]:
    """Drives the client against the null server, with AT_ONCE streams or `batch` if that is less, and returns what it
    managed.

    {"tokens_per_s", "cpu_s_per_s" of this process, "tokens", "requests", "streams_at_once", "seconds",
    "connections_opened"}. It lasts for some tenths of a second, after the null server's start.
    """
    import numpy as np

    from innerloop.engines.worker.loop import drive
    from innerloop.engines.worker.work import Work

    n, at_once = REQUESTS, min(batch, AT_ONCE)
    work = Work(
        prompt_tokens=np.tile(np.arange(1, PROMPT_TOKENS + 1, dtype=np.int32), n),
        prompt_offsets=np.arange(n + 1, dtype=np.int64) * PROMPT_TOKENS,
        output_lens=np.full(n, OUTPUT_TOKENS, dtype=np.int32),
        due_ns=np.where(np.arange(n) < at_once, 0, -1).astype(np.int64),
        next_request=np.where(np.arange(n) + at_once < n, np.arange(n) + at_once, -1).astype(np.int32),
        user=np.full(n, -1, dtype=np.int32),
        rest_ns=0,
        duration_ns=-1,
    )
    server = children.Child("http.null", "")
    client = None
    try:
        client = HttpClient(int(server.ready(START_S)), "/v1/completions", body, read)
        with tempfile.TemporaryDirectory() as folder:
            recorder = work.recorder(Path(folder) / "null")
            cpu, begun = time.process_time_ns(), time.monotonic_ns()
            drive(client, work, recorder)
            wall_s, cpu_s = (time.monotonic_ns() - begun) / 1e9, (time.process_time_ns() - cpu) / 1e9
            recorder.close()
    finally:
        if client is not None:
            client.close()
        server.end()
    return {
        "tokens_per_s": n * OUTPUT_TOKENS / wall_s,
        "cpu_s_per_s": cpu_s / wall_s,
        "tokens": n * OUTPUT_TOKENS,
        "requests": n,
        "streams_at_once": at_once,
        "seconds": wall_s,
        "connections_opened": client.opened,
    }


# -------------------------------------------------------------------- the server's side


def main(told: str, channel: str) -> None:
    """Serves until it is ended; says first on which port of 127.0.0.1."""
    children.follow_parent()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    children.tell(channel, str(listener.getsockname()[1]))
    Null(listener).serve()


def event(token: int, last: bool) -> bytes:
    """One token's chunk, with the fields and about the length of vLLM's."""
    choice = {
        "index": 0,
        "text": " token",
        "logprobs": None,
        "finish_reason": "length" if last else None,
        "stop_reason": None,
        "token_ids": [token],
    }
    text = json.dumps(
        {
            "id": "cmpl-00000000000000000000000000000000",
            "object": "text_completion",
            "created": 1700000000,
            "model": "innerloop-null",
            "choices": [choice],
        },
        separators=(",", ":"),
    )
    data = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


class Null:
    """Reads requests and sends each open stream's next event in turn; one whose client is behind waits."""

    def __init__(self, listener: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._listener = listener
        self._received: dict[socket.socket, bytes] = {}
        self._left: dict[socket.socket, int] = {}  # tokens that an open stream still gets
        self._token, self._last = event(12345, False), event(12345, True) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select(0 if self._left else None):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._receive(key.fileobj)  # type: ignore[arg-type]
            for connection in list(self._left):
                self._send_next(connection)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self._received[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        head, blank, body = (self._received[connection] + data).partition(b"\r\n\r\n")
        self._received[connection] += data
        if not blank:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields[b"content-length"]):
            return
        self._received[connection] = b""
        connection.send(HEAD)
        self._left[connection] = json.loads(body)["max_tokens"]

    def _send_next(self, connection: socket.socket) -> None:
        left = self._left[connection]
        data = self._token if left > 1 else self._last
        try:
            sent = connection.send(data)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if sent < len(data):  # the buffer is full in the middle of an event: rare, and the rest must follow
            self._finish(connection, data[sent:])
        if left > 1:
            self._left[connection] = left - 1
        else:
            del self._left[connection]

    def _finish(self, connection: socket.socket, rest: bytes) -> None:
        connection.setblocking(True)
        try:
            connection.sendall(rest)
        except OSError:
            pass  # it will be found out when it is read from
        connection.setblocking(False)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._received.pop(connection, None)
        self._left.pop(connection, None)
        connection.close()
