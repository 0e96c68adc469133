"""A streaming HTTP client for one server on this host, driven one step at a time in one thread, standard library only.

Requests go out on kept connections, the streams are read as they come, and every token is counted by its id.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass, field

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.http.protocols import Read, Wire
from innerloop.engines.http.stream import BadResponse, ResponseReader, words
from innerloop.engines.support.failures import ServerFailed
from innerloop.engines.support.waiting import SPIN_NS, Timer

READ_BYTES = 1 << 18
SLICE_S = 1.0  # a step that waits for longer returns, so that whoever drives it can look around
CONNECT_S = 10.0
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)  # reading what is not as told

Address = tuple[str, int]  # host and port
Prepared = tuple[int, bytes, Read]  # a request's id, its whole message, and what reads its stream


def unread(event: bytes) -> tuple[list[int], bool]:
    """Reads the events of no request."""
    raise ValueError("it does not belong to any request")


@dataclass(slots=True)
class Connection:
    """One connection, and the request on it: None while it waits for one."""

    socket: socket.socket
    fresh: bool = True  # no response has come over it yet
    request: int | None = None
    message: bytes = b""
    read: Read = unread
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    reader: ResponseReader = field(default_factory=ResponseReader)
    finished: bool = False  # the last token has come; the end of the response may not have


class HttpClient(Session):
    """Streams completions of one server. Its `info` is for whoever makes it to set.

    wire: where and in which form requests go, and how their streams are read.
    """

    def __init__(self, address: Address, wire: Wire) -> None:
        self._address, self._wire = address, wire
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self._head = f"POST {wire.path} HTTP/1.1\r\nHost: {host}:{address[1]}\r\nAccept: text/event-stream\r\n".encode()
        self._selector = selectors.DefaultSelector()
        self._timer = Timer()
        self._selector.register(self._timer, selectors.EVENT_READ)
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._unfinished = 0
        self._begun: tuple[int, int] | None = None  # of a step that was cut short: its start, what it has waited
        self.opened = 0  # connections, ever: far fewer than requests where they are reused

    # ---------------------------------------------------------------- as the loop drives an engine

    def prepare(self, request: Request) -> Prepared:
        body = self._wire.body(request)
        head = self._head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        return request.id, head + body, self._wire.reader(request)

    def submit(self, prepared: Prepared) -> None:
        self._unfinished += 1
        self._send(self._free() or self._open(), *prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        """Waits for tokens, until `until_ns` or for a second at most.

        The report's tokens are those that were there together, each request's with the time at which they were read;
        `wait` is the time in which nothing was. A step that was cut short by `until_ns` is part of the next one.

        Raises:
            ServerFailed: the server is gone, refuses a request or breaks off.
        """
        now = time.monotonic_ns()
        start, waited = self._begun or (now, 0)
        until = now + int(SLICE_S * 1e9) if until_ns is None else min(until_ns, now + int(SLICE_S * 1e9))
        self._timer.arm(until_ns)
        tokens: dict[int, list[int]] = {}
        arrived: dict[int, int] = {}
        finished: list[int] = []
        while not tokens and not finished:
            begun = time.monotonic_ns()
            left = until - begun
            ready = self._selector.select(left / 1e9 if left > SPIN_NS else 0)  # the last stretch is polled
            now = time.monotonic_ns()
            waited += now - begun
            if now >= until and all(key.data is None for key, _ in ready):
                self._begun = (start, waited) if self._unfinished else None
                return Nothing.TIMED_OUT
            received: list[tuple[Connection, bytes, int]] = []  # all of it before any is parsed, which takes longer
            for key, events in ready:
                if key.data is None:
                    self._timer.clear()
                    continue
                if events & selectors.EVENT_WRITE:
                    self._flush(key.data)
                if events & selectors.EVENT_READ and key.data.socket.fileno() >= 0:  # not dropped just now
                    data = self._receive(key.data)
                    if data is not None:
                        received.append((key.data, data, time.monotonic_ns()))
            for connection, data, time_ns in received:
                request = connection.request
                self._parse(connection, data, tokens, finished)
                if request is not None and request in tokens:
                    arrived[request] = time_ns
        self._begun = None
        return StepReport(
            start_ns=start,
            end_ns=time.monotonic_ns(),
            tokens=list(tokens.items()),
            token_ns=[arrived[request] for request in tokens],
            finished=finished,
            wait_ns=waited,
        )

    def has_work(self) -> bool:
        return self._unfinished > 0

    def close(self) -> None:
        for connection in self._all:
            connection.socket.close()
        self._all.clear()
        self._idle.clear()
        self._selector.close()
        self._timer.close()

    # ---------------------------------------------------------------- connections

    def _open(self) -> Connection:
        try:
            made = socket.create_connection(self._address, timeout=CONNECT_S)
        except OSError as error:
            raise ServerFailed(f"the server on port {self._address[1]} cannot be reached: {error}") from None
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        connection = Connection(made)
        self._selector.register(made, selectors.EVENT_READ, connection)
        self._all.append(connection)
        self.opened += 1
        return connection

    def _free(self) -> Connection | None:
        """A kept connection that the server has not closed meanwhile; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            try:
                connection.socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return connection
            except OSError:
                pass
            self._drop(connection)  # it has ended, or something came that nobody asked for
        return None

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._all.remove(connection)

    def _send(self, connection: Connection, request: int, message: bytes, read: Read) -> None:
        connection.request, connection.message, connection.read = request, message, read
        connection.finished = False
        connection.reader = ResponseReader()
        connection.unsent = memoryview(message)
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        """Sends what the socket takes; the rest goes when it takes more."""
        pending = bool(connection.unsent)
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
            wanted = selectors.EVENT_READ
        except BlockingIOError:
            wanted = selectors.EVENT_READ | selectors.EVENT_WRITE
        except OSError as error:
            self._broken(connection, str(error))
            return
        if pending and self._selector.get_key(connection.socket).events != wanted:
            self._selector.modify(connection.socket, wanted, connection)

    def _receive(self, connection: Connection) -> bytes | None:
        """What has come; None if nothing has, or the connection broke."""
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            self._broken(connection, str(error))
            return None
        if not data:
            self._broken(connection, "it closed the connection")
            return None
        return data

    def _parse(self, connection: Connection, data: bytes, tokens: dict[int, list[int]], finished: list[int]) -> None:
        request = connection.request
        if request is None:
            raise ServerFailed(f"the server sent unexpected data: {data[:80]!r}")
        reader = connection.reader
        try:
            for event in reader.feed(data):
                try:
                    ids, last = connection.read(event)
                except MALFORMED as error:
                    said = error if type(error) is ValueError else f"the stream is malformed: {words(event)!r}"
                    raise ServerFailed(f"request {request}: {said}") from error
                if ids:
                    tokens.setdefault(request, []).extend(ids)
                if last and not connection.finished:
                    connection.finished = True
                    finished.append(request)
                    self._unfinished -= 1
        except BadResponse as error:
            raise ServerFailed(f"request {request}: {error}") from error
        if reader.done:
            if not connection.finished:
                raise ServerFailed(f"request {request}: the server's response ended before the last token")
            connection.request, connection.message, connection.read = None, b"", unread
            connection.fresh = False
            if reader.reusable:
                self._idle.append(connection)
            else:
                self._drop(connection)

    def _broken(self, connection: Connection, why: str) -> None:
        """A kept connection may be closed by the server just as it is used again: then, and if nothing of the answer
        has come, the request is sent once more on a new one."""
        request, message, read = connection.request, connection.message, connection.read
        retry = request is not None and not connection.fresh and not connection.reader.begun
        if connection in self._idle:
            self._idle.remove(connection)
        self._drop(connection)
        if request is None:
            return
        if not retry:
            said = connection.reader.error()
            raise ServerFailed(f"request {request}: {said or f'the server closed the stream: {why}'}")
        self._send(self._open(), request, message, read)
