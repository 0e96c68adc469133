"""Perfetto's trace format, as far as it is needed: tracks, nested slices and counters, as protobuf messages.

Written here rather than by the `perfetto` package, since a page of code replaces it and protobuf, of which engines and
tools want versions of their own. The numbers are those of protos/perfetto/trace/{trace_packet,track_event/*}.proto, and
the tests read what is written back with that package. The wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO

VARINT, FIXED64, BYTES = 0, 1, 2
SEQUENCE = 1  # everything is written by one sequence of packets
CLEARED, NEEDED = 1, 2  # TracePacket.sequence_flags: interned names begin anew, or are used
BEGIN, END, COUNTER = 1, 2, 4  # TrackEvent.Type
CHRONOLOGICAL, EXPLICIT = 2, 3  # TrackDescriptor.ChildTracksOrdering
BUFFER_BYTES = 1 << 20
DOUBLE = struct.Struct("<d")

Value = int | float | str


def varint(value: int) -> bytes:
    """A number from 0 to 2^64 - 1."""
    return SMALL[value] if value < len(SMALL) else encoded(value)


def encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


SMALL = tuple(encoded(value) for value in range(1 << 14))  # one and two bytes: nearly all that is written


def number(field: int, value: int) -> bytes:
    return SMALL[field << 3 | VARINT] + varint(value & 0xFFFFFFFFFFFFFFFF)


def double(field: int, value: float) -> bytes:
    return SMALL[field << 3 | FIXED64] + DOUBLE.pack(value)


def data(field: int, content: bytes | str) -> bytes:
    """A string, or a message in a message."""
    raw = content.encode() if isinstance(content, str) else content
    return SMALL[field << 3 | BYTES] + varint(len(raw)) + raw


class TraceWriter:
    """Writes a trace to a file. Slices of one track must nest; times are in ns and never go back within a track."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pending = bytearray()
        self._tracks = 0
        self._names: dict[str, bytes] = {}  # of slices that many have: their event's field, by interned name
        self._keys: dict[str, bytes] = {}  # of facts: the annotation's field
        self._ends: dict[int, bytes] = {}  # the event that closes a slice of a track
        self._tail = number(10, SEQUENCE) + number(13, NEEDED)
        self._packet(number(10, SEQUENCE) + number(13, CLEARED))

    def track(
        self, name: str, parent: int | None = None, *, rank: int = 0, ordering: int = EXPLICIT, unit: str | None = None
    ) -> int:
        """A new track, by its number. `unit` makes it one of a counter; `rank` is its place among its siblings."""
        self._tracks += 1
        body = number(1, self._tracks) + data(2, name) + number(11, ordering) + number(12, rank)
        if parent is not None:
            body += number(5, parent)
        if unit is not None:
            body += data(8, data(6, unit))
        self._packet(number(10, SEQUENCE) + data(60, body))
        return self._tracks

    def begin(
        self, track: int, time_ns: int, name: str, facts: Mapping[str, Value | None] | None = None, shared: bool = True
    ) -> None:
        """Opens a slice. `shared` names are kept once for all that have them; facts that are None are left out."""
        event = number(9, BEGIN) + number(11, track)
        event += self._name(name) if shared else data(23, name)
        for key, value in (facts or {}).items():
            if value is not None:
                event += data(4, (self._keys.get(key) or self._key(key)) + fact(value))
        self._event(time_ns, event)

    def end(self, track: int, time_ns: int) -> None:
        """Closes the slice that was opened last on the track."""
        event = self._ends.get(track)
        if event is None:
            event = self._ends[track] = number(9, END) + number(11, track)
        self._event(time_ns, event)

    def count(self, track: int, time_ns: int, value: float) -> None:
        self._event(time_ns, number(9, COUNTER) + number(11, track) + double(44, value))

    def flush(self) -> None:
        self._file.write(self._pending)
        self._pending.clear()

    def _event(self, time_ns: int, event: bytes) -> None:
        self._packet(number(8, time_ns) + self._tail + data(11, event))

    def _packet(self, body: bytes) -> None:
        self._pending += data(1, body)
        if len(self._pending) > BUFFER_BYTES:
            self.flush()

    def _name(self, name: str) -> bytes:
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = number(10, len(self._names) + 1)
            self._intern(2, len(self._names), name)
        return known

    def _key(self, name: str) -> bytes:
        self._keys[name] = number(1, len(self._keys) + 1)
        self._intern(3, len(self._keys), name)
        return self._keys[name]

    def _intern(self, kind: int, place: int, name: str) -> None:
        self._packet(self._tail + data(12, data(kind, number(1, place) + data(2, name))))


def fact(value: Value) -> bytes:
    """The value of a debug annotation."""
    if isinstance(value, str):
        return data(6, value)
    return number(4, value) if isinstance(value, int) else double(5, value)
