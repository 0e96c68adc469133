"""The CPU time, memory and context switches of a process and all its descendants, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Counters = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """A tree's totals. The first three never fall: what a process used stays counted after its end."""

    user_s: float
    system_s: float
    major_faults: int
    rss_bytes: int
    threads: int
    processes: int


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that matter here (see proc_pid_stat(5))."""

    alive: bool  # not a zombie
    parent: int
    session: int
    counters: Counters  # user ticks, system ticks, major faults
    threads: int
    rss_pages: int

    @classmethod
    def parse(cls, text: bytes) -> Stat:
        after_name = text[text.rindex(b")") + 2 :].split()  # the name may hold spaces and parentheses
        f = [int(x) for x in after_name[1:22]]
        return cls(after_name[0] != b"Z", f[0], f[2], (f[10], f[11], f[8]), f[16], f[20])


class Tree:
    """Processes, their descendants, and everything in their sessions if they lead one (orphans keep their session)."""

    def __init__(self, *roots: int) -> None:
        self._roots = roots
        self._files: dict[int, int] = {}  # pid -> an open /proc/PID/stat, which a successor's pid cannot take over
        self._last: dict[int, Counters] = {}
        self._ended: Counters = (0, 0, 0)
        self._seen: set[int] = set()
        self._newest = b""
        self._switches: dict[tuple[int, int], Counters] = {}
        self._switches_ended: Counters = (0, 0)
        self._loadavg = _opened("/proc/loadavg")

    def close(self) -> None:
        for file in (*self._files.values(), self._loadavg):
            if file is not None:
                os.close(file)
        self._files.clear()

    def usage(self) -> Usage:
        """The tree's totals now; processes that ended since the last call stay in those that never fall."""
        self._discover()
        processes = threads = pages = 0
        for pid, file in list(self._files.items()):
            stat = _read_stat(file)
            if stat is None:
                os.close(self._files.pop(pid))
                self._ended = _add(self._ended, self._last.pop(pid, (0, 0, 0)))
                continue
            self._last[pid] = stat.counters
            if stat.alive:
                processes += 1
                threads += stat.threads
                pages += stat.rss_pages
        user, system, faults = _sum(self._last.values(), self._ended)
        return Usage(user * TICK_S, system * TICK_S, faults, pages * PAGE_BYTES, threads, processes)

    def members(self) -> set[int]:
        """The processes of the tree, including those that ended since the last call of `usage`."""
        self._discover()
        return set(self._files)

    def switches(self) -> Counters:
        """(voluntary, involuntary) context switches of every thread so far; dearer than `usage`: one file a thread.

        (-1, -1) where the kernel has not told those of any thread yet.
        """
        now: dict[tuple[int, int], Counters] = {}
        for pid in self._files:
            try:
                threads = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for thread in threads:
                counts = _read_switches(f"/proc/{pid}/task/{thread}/status")
                if counts is not None:
                    now[pid, int(thread)] = counts
        for key in self._switches.keys() - now.keys():
            self._switches_ended = _add(self._switches_ended, self._switches[key])
        self._switches = now
        if not now and self._switches_ended == (0, 0):
            return -1, -1
        return _sum(now.values(), self._switches_ended)

    def _discover(self) -> None:
        """Finds new members. The kernel tells in one small file whether any process or thread was made since; where it
        does not, every process is looked at."""
        newest = os.pread(self._loadavg, 128, 0) if self._loadavg is not None else b""
        newest = newest.split()[-1] if newest.split() else b""
        if newest and newest == self._newest:
            return
        self._newest = newest
        listed = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        fresh: dict[int, tuple[int, Stat]] = {}
        for pid in listed - self._seen:
            opened = _open_stat(pid)
            if opened is not None:
                fresh[pid] = opened
        self._seen = listed
        while found := [pid for pid, (_, stat) in fresh.items() if self._belongs(pid, stat)]:
            for pid in found:
                self._files[pid] = fresh.pop(pid)[0]
        for file, _ in fresh.values():
            os.close(file)

    def _belongs(self, pid: int, stat: Stat) -> bool:
        return pid in self._roots or stat.parent in self._files or stat.session in self._roots


def _opened(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None


def _open_stat(pid: int) -> tuple[int, Stat] | None:
    file = _opened(f"/proc/{pid}/stat")
    if file is None:  # it has ended since
        return None
    stat = _read_stat(file)
    if stat is None:
        os.close(file)
        return None
    return file, stat


def _read_stat(file: int) -> Stat | None:
    try:
        return Stat.parse(os.pread(file, 1024, 0))
    except (OSError, ValueError):  # ESRCH, or nothing to read: it has ended
        return None


def _read_switches(path: str) -> Counters | None:
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(4096)
    except OSError:
        return None
    at = text.find(b"\nvoluntary_ctxt_switches:")
    if at < 0:
        return None
    voluntary, involuntary = text[at:].split()[1:4:2]
    return int(voluntary), int(involuntary)


def _add(a: Counters, b: Counters) -> Counters:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _sum(many: Iterable[Counters], start: Counters) -> Counters:
    return tuple(map(sum, zip(start, *many, strict=True)))
