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
from collections import deque
from pathlib import Path
from typing import Any

from innerloop.engines.http import answers
from innerloop.engines.http.client import HttpClient
from innerloop.engines.http.protocols import Protocol, Wire
from innerloop.engines.http.texts import CANDIDATES, Words
from innerloop.engines.support import children

AT_ONCE = 16  # streams, at most: fewer than in most runs, since a client gains from reading many of them at a time
REQUESTS = 512
OUTPUT_TOKENS = 64
PROMPT_TOKENS = 64
START_S = 30.0


def capacity(batch: int, protocol: Protocol) -> dict[str, Any]:
    """Drives the client against the null server in a protocol, with AT_ONCE streams or `batch` if that is less, and
    returns what it managed.

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
    wire = Wire(protocol, "innerloop-null", words=Words(CANDIDATES, 0) if protocol.text else None)
    server = children.Child("http.null", protocol.name)
    client = None
    try:
        client = HttpClient(("127.0.0.1", int(server.ready(START_S))), wire)
        with tempfile.TemporaryDirectory() as folder:  # the files are written on without their names
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
    """Serves the protocol of that name until it is ended; says first on which port of 127.0.0.1."""
    children.follow_parent()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    children.tell(channel, str(listener.getsockname()[1]))
    Null(listener, told).serve()


class Null:
    """Reads requests and sends each open stream's next event in turn; one whose client is behind waits."""

    def __init__(self, listener: socket.socket, protocol: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._listener = listener
        self._received: dict[socket.socket, bytes] = {}
        self._left: dict[socket.socket, deque[bytes]] = {}  # what an open stream still gets, a token each
        self._protocol = protocol
        self._streams: dict[tuple[int, int], list[bytes]] = {}  # by the tokens of prompt and output

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
        connection.send(answers.HEAD)
        asked = json.loads(body)
        length = answers.asked(asked)
        if length not in self._streams:
            self._streams[length] = answers.stream(self._protocol, asked)
        self._left[connection] = deque(self._streams[length])

    def _send_next(self, connection: socket.socket) -> None:
        left = self._left[connection]
        data = left[0]
        try:
            sent = connection.send(data)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if sent < len(data):  # the buffer is full in the middle of an event: rare, and the rest must follow
            self._finish(connection, data[sent:])
        left.popleft()
        if not left:
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
