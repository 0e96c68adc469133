"""A scripted server on loopback: says exactly what a test wants said, byte for byte, and notes what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def token(*ids: int, last: bool = False) -> bytes:
    choice = {"index": 0, "text": "x", "token_ids": list(ids), "finish_reason": "length" if last else None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def stream(ids: list[int]) -> bytes:
    """A whole answer: one event a token, and the end."""
    events = [chunk(token(i, last=k == len(ids) - 1)) for k, i in enumerate(ids)]
    return OK + b"".join(events) + chunk(b"data: [DONE]\n\n") + END


class Scripted:
    """`answer(connection, body, number)` is called with each request, `number` counting them from 0."""

    def __init__(self, answer: Callable[[socket.socket, dict[str, Any], int], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        with suppress(OSError):
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                )
                while len(data) < length:
                    data += connection.recv(65536)
                body, data = json.loads(data[:length]), data[length:]
                self.heads.append(head.decode())
                self.bodies.append(body)
                self._answer(connection, body, len(self.bodies) - 1)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # also for the thread that waits in accept()
        self._listener.close()
        for connection in self._open:
            connection.close()


@contextmanager
def scripted(answer: Callable[[socket.socket, dict[str, Any], int], None]) -> Iterator[Scripted]:
    server = Scripted(answer)
    try:
        yield server
    finally:
        server.close()


def close(connection: socket.socket) -> None:
    """Ends a connection at once, also for the thread that reads from it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
