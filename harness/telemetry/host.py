"""The host while the engine steps: the worker's processes, the machine, and everybody else on it (Linux, /proc)."""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np

from innerloop.harness.telemetry.processes import PAGE_BYTES, TICK_S, Counters, Tree
from innerloop.harness.telemetry.sampler import TIMES, Sampler

INTERVAL_S = 1.0  # each sample takes a core from an engine that uses all of them
SWITCHES_EVERY_S = 1.0  # context switches cost a file a thread, so they are read less often

HOST = np.dtype(
    [
        *TIMES,
        # the worker's process and all its descendants; counters that never fall
        ("worker_user_s", "<f8"),
        ("worker_system_s", "<f8"),
        ("worker_major_faults", "<i8"),
        ("worker_voluntary_switches", "<i8"),  # -1 in the samples that do not read them, or cannot
        ("worker_involuntary_switches", "<i8"),
        ("worker_rss_bytes", "<i8"),  # a page that two processes share counts twice
        ("worker_threads", "<i4"),
        ("worker_processes", "<i4"),
        ("harness_cpu_s", "<f8"),
        # the machine, over all its cores; counters, NaN and -1 where the kernel has none
        ("machine_busy_s", "<f8"),  # user, nice, system, irq and softirq; guests are part of user and nice
        ("machine_idle_s", "<f8"),
        ("machine_iowait_s", "<f8"),
        ("machine_steal_s", "<f8"),
        ("swap_in_bytes", "<i8"),
        ("swap_out_bytes", "<i8"),
        ("available_bytes", "<i8"),
    ]
)


class HostSampler(Sampler):
    """Samples the host. `facts` holds `cpus`, the cores that are online."""

    source = "host"
    dtype = HOST

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        super().__init__(interval_s)
        self.also: tuple[int, ...] = ()  # roots of further trees that count as the worker's
        self._files: dict[str, int] = {}
        self._tree: Tree | None = None
        self._switches_due = 0.0

    def open(self, pid: int) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError(f"host telemetry needs Linux's /proc; this is {sys.platform}")
        self.facts["cpus"] = os.sysconf("SC_NPROCESSORS_ONLN")
        for name in ("stat", "vmstat", "meminfo"):
            with suppress(OSError):  # sandboxes have a part of /proc
                self._files[name] = os.open(f"/proc/{name}", os.O_RDONLY)
        self._tree = Tree(pid, *self.also)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        if self._tree is not None:
            self._tree.close()

    def read(self) -> tuple[Any, ...]:
        tree = self._tree
        assert tree is not None, "call open() first"
        usage = tree.usage()
        switches: Counters = (-1, -1)
        if self._stop.is_set() or time.monotonic() >= self._switches_due:
            self._switches_due = time.monotonic() + SWITCHES_EVERY_S
            switches = tree.switches()
        busy, idle, iowait, steal = self._machine_s()
        swap_in, swap_out = self._swapped_bytes()
        return (
            usage.user_s,
            usage.system_s,
            usage.major_faults,
            *switches,
            usage.rss_bytes,
            usage.threads,
            usage.processes,
            time.process_time(),
            busy,
            idle,
            iowait,
            steal,
            swap_in,
            swap_out,
            self._available_bytes(),
        )

    def _machine_s(self) -> tuple[float, float, float, float]:
        """busy, idle, iowait and steal of all cores so far; NaN where the kernel does not count them."""
        line = self._start_of("stat", 256).split(b"\n", 1)[0]
        counted = [int(ticks) * TICK_S for ticks in line.split()[1:9]]
        user, nice, system, idle, iowait, irq, softirq, steal = counted + [math.nan] * (8 - len(counted))
        return user + nice + system + sum(s for s in (irq, softirq) if not math.isnan(s)), idle, iowait, steal

    def _swapped_bytes(self) -> list[int]:
        """In and out, since the machine started; -1 where the kernel does not count it."""
        text = self._start_of("vmstat", 1 << 16)
        pages = (_number_after(text, key) for key in (b"\npswpin ", b"\npswpout "))
        return [-1 if n is None else n * PAGE_BYTES for n in pages]

    def _available_bytes(self) -> int:
        kib = _number_after(self._start_of("meminfo", 1 << 12), b"\nMemAvailable:")
        return -1 if kib is None else kib * 1024

    def _start_of(self, name: str, length: int) -> bytes:
        """The first bytes of a file of /proc; nothing where there is none."""
        return os.pread(self._files[name], length, 0) if name in self._files else b""


def _number_after(text: bytes, key: bytes) -> int | None:
    at = text.find(key)
    return int(text[at + len(key) :].split(None, 1)[0]) if at >= 0 else None
