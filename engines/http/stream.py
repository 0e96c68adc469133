"""Reads one HTTP/1.1 connection's responses as they arrive: a status, and server-sent events from a chunked body.

RFC 9112 (messages and chunked coding) and the HTML standard's event stream, as far as servers of language models use
them. Bytes in, events out; no sockets.
"""

from __future__ import annotations

LONGEST_LINE = 1 << 16
LONGEST_ERROR = 1 << 16
LONGEST_PART = 1 << 26  # a chunk, or an event: far more than any of a token's
HEX = frozenset(b"0123456789abcdefABCDEF")


class BadResponse(RuntimeError):
    """What arrived is not HTTP/1.1 as expected, or is an error of the server's, in its words."""


class ResponseReader:
    """`feed` takes bytes and returns the data of the events that they complete.

    `done` is whether the response has ended, `reusable` whether another request may follow on its connection.
    """

    def __init__(self) -> None:
        self.begun = False  # whether any byte of this response has come
        self.done = False
        self.reusable = True
        self._buffer = b""
        self._body = b""  # decoded, and not yet a whole event
        self._read = self._head
        self._status = 0
        self._left = 0  # of the chunk, or of the body where its length is told
        self._streamed = False  # whether there has been an event

    def feed(self, data: bytes) -> list[bytes]:
        """Raises BadResponse: see there. An error's whole body is waited for first."""
        self.begun = True
        self._buffer += data
        while not self.done and self._read():
            pass
        if self._status != 200:
            if self.done or len(self._body) > LONGEST_ERROR:
                raise BadResponse(self.error())
            return []
        return self._events()

    def error(self) -> str:
        """The server's error, as far as it has come; empty where it has answered with none."""
        return f"the server answered {self._status}: {words(self._body)}" if self._status not in (0, 100, 200) else ""

    # ---------------------------------------------------------------- states: each returns whether it got further

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > LONGEST_LINE:
                raise BadResponse(f"the server sent a line of more than {LONGEST_LINE} bytes")
            return None
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.removesuffix(b"\r")

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > LONGEST_LINE:
                raise BadResponse(f"the server sent headers of more than {LONGEST_LINE} bytes")
            return False
        head, self._buffer = self._buffer[:end].decode("latin-1"), self._buffer[end + 4 :]
        first, *lines = head.split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise BadResponse(f"the server does not speak HTTP/1.1: {first[:80]!r}")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._status = int(words[1])
        if self._status == 100:  # Continue
            return True
        self.reusable = words[0] == "HTTP/1.1" and fields.get("connection", "").lower() != "close"
        if "chunked" in fields.get("transfer-encoding", "").lower():
            self._read = self._chunk_size
        elif "content-length" in fields:
            length = fields["content-length"]
            if not (length.isascii() and length.isdigit()):
                raise BadResponse(f"the server sent an invalid content length: {length[:40]!r}")
            self._left = int(length)
            self._read = self._sized
        else:
            raise BadResponse(f"the server answered {self._status} without a content length")
        return True

    def _chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        size = line.partition(b";")[0].strip()
        if not size or not HEX.issuperset(size):
            raise BadResponse(f"the server sent an invalid chunk size: {line[:40]!r}")
        self._left = int(size, 16)
        if self._left > LONGEST_PART:
            raise BadResponse(f"the server announced a chunk of more than {LONGEST_PART} bytes")
        self._read = self._chunk if self._left else self._trailer
        return True

    def _chunk(self) -> bool:
        if len(self._buffer) < self._left + 2:  # with the line end behind it
            return False
        self._body += self._buffer[: self._left]
        if self._buffer[self._left : self._left + 2] != b"\r\n":
            raise BadResponse("a chunk of the server's response is longer than its stated size")
        self._buffer = self._buffer[self._left + 2 :]
        self._read = self._chunk_size
        return True

    def _trailer(self) -> bool:
        line = self._line()
        if line == b"":
            self.done = True
        return line is not None

    def _sized(self) -> bool:
        took, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._body += took
        self._left -= len(took)
        self.done = self._left == 0
        return False

    def _events(self) -> list[bytes]:
        if b"\r" in self._body:
            self._body = self._body.replace(b"\r\n", b"\n")
        events = []
        if b"\n\n" in self._body:
            *whole, self._body = self._body.split(b"\n\n")
            for block in whole:
                data = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
            self._streamed = self._streamed or bool(events)
        if len(self._body) > LONGEST_PART:
            raise BadResponse(f"the server sent an event of more than {LONGEST_PART} bytes")
        if self.done and not self._streamed and self._body.strip():
            raise BadResponse(f"the server did not answer with an event stream: {words(self._body)}")
        return events


def words(said: bytes) -> str:
    """What a server said, for an error's text: one line of at most 500 characters, without control characters."""
    text = " ".join(said[:4000].decode(errors="replace").split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= 500 else shown[:500] + " ..."
