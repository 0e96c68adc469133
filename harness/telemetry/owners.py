"""Who uses a device: the worker's own processes, and everybody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from innerloop.harness.telemetry.processes import Tree


class Process(NamedTuple):
    """A process that the driver lists on a device; None: the driver does not say how much memory it holds."""

    pid: int
    bytes: int | None


@dataclass(slots=True)
class Seen:
    """One process on the device. `name` is None where /proc does not know its number, as in a container."""

    pid: int
    name: str | None
    own: bool  # of the worker's process tree
    first_ns: int
    last_ns: int
    peak_bytes: int | None


class Owners:
    """Remembers every process that the driver lists, and whose it is."""

    def __init__(self) -> None:
        self._roots: tuple[int, ...] = ()
        self._tree: Tree | None = None
        self._seen: dict[int, Seen] = {}

    def follow(self, *roots: int) -> None:
        """Names the roots of the process trees that count as the worker's. May be called from another thread."""
        self._roots = roots

    def look(self, listed: Sequence[Process], now_ns: int) -> int:
        """Takes note of a list of processes; returns the bytes that the worker's hold, -1 if that cannot be known."""
        own = self._members() if listed else set()
        held, known = 0, False
        for pid, used in listed:
            seen = self._seen.get(pid)
            if seen is None:
                seen = self._seen[pid] = Seen(pid, process_name(pid), pid in own, now_ns, now_ns, used)
            seen.own = seen.own or pid in own
            seen.last_ns = now_ns
            if used is not None:
                seen.peak_bytes = max(used, seen.peak_bytes or 0)
                if seen.own:
                    held, known = held + used, True
        return held if known else -1

    def seen(self) -> list[Seen]:
        """Every process so far."""
        return list(self._seen.values())

    def close(self) -> None:
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    def _members(self) -> set[int]:
        if not self._roots:
            return set()
        if self._tree is None:
            self._tree = Tree(*self._roots)
        return self._tree.members()


def process_name(pid: int) -> str | None:
    """The name of a process as /proc knows it; None if there is no such number here."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read(64).decode(errors="replace").strip()
    except OSError:
        return None
