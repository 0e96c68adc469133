"""The host while the engine steps: the worker's processes, the machine, and everybody else on it (Linux, /proc)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from innerloop.harness.telemetry.processes import PAGE_BYTES, TICK_S, Counters, Tree
from innerloop.harness.telemetry.sampler import TIMES, Sampler, Samples

INTERVAL_S = 1.0  # each sample takes a core from an engine that uses all of them
SWITCHES_EVERY_S = 1.0  # context switches cost a file a thread, so they are read less often

HOST = np.dtype(
    [
        *TIMES,
        # the worker's process and all its descendants; counters that never fall
        ("worker_user_s", "<f8"),
        ("worker_system_s", "<f8"),
        ("worker_major_faults", "<i8"),
        ("worker_voluntary_switches", "<i8"),  # -1 in the samples that do not read them
        ("worker_involuntary_switches", "<i8"),
        ("worker_rss_bytes", "<i8"),  # a page that two processes share counts twice
        ("worker_threads", "<i4"),
        ("worker_processes", "<i4"),
        ("harness_cpu_s", "<f8"),
        # the machine, over all its cores; counters
        ("machine_busy_s", "<f8"),  # user, nice, system, irq and softirq
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
        self._files: dict[str, int] = {}
        self._tree: Tree | None = None
        self._switches_due = 0.0

    def open(self, pid: int) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError(f"host telemetry needs Linux's /proc, and this is {sys.platform}")
        self.facts["cpus"] = os.sysconf("SC_NPROCESSORS_ONLN")
        for name in ("stat", "vmstat", "meminfo"):
            self._files[name] = os.open(f"/proc/{name}", os.O_RDONLY)
        self._tree = Tree(pid)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        if self._tree is not None:
            self._tree.close()

    def read(self) -> tuple[Any, ...]:
        tree = self._tree
        assert tree is not None, "open() comes first"
        usage = tree.usage()
        switches: Counters = (-1, -1)
        if self._stop.is_set() or time.monotonic() >= self._switches_due:
            self._switches_due = time.monotonic() + SWITCHES_EVERY_S
            switches = tree.switches()
        user, nice, system, idle, iowait, irq, softirq, steal = self._cpu_ticks()
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
            (user + nice + system + irq + softirq) * TICK_S,
            idle * TICK_S,
            iowait * TICK_S,
            steal * TICK_S,
            swap_in,
            swap_out,
            self._available_bytes(),
        )

    def _cpu_ticks(self) -> list[int]:
        """user, nice, system, idle, iowait, irq, softirq, steal of all cores (guest time is part of user and nice)."""
        line = os.pread(self._files["stat"], 256, 0).split(b"\n", 1)[0]
        return [int(x) for x in line.split()[1:9]]

    def _swapped_bytes(self) -> list[int]:
        """In and out, since the machine started; -1 where the kernel does not count it."""
        text = os.pread(self._files["vmstat"], 1 << 16, 0)
        pages = (_number_after(text, key) for key in (b"\npswpin ", b"\npswpout "))
        return [-1 if n is None else n * PAGE_BYTES for n in pages]

    def _available_bytes(self) -> int:
        kib = _number_after(os.pread(self._files["meminfo"], 1 << 12, 0), b"\nMemAvailable:")
        return -1 if kib is None else kib * 1024


def _number_after(text: bytes, key: bytes) -> int | None:
    at = text.find(key)
    return int(text[at + len(key) :].split(None, 1)[0]) if at >= 0 else None


def summary(samples: Samples, start_ns: int, end_ns: int) -> dict[str, Any] | None:
    """The host over [start_ns, end_ns], for the result's telemetry.host; None with fewer than two samples around it.

    Counters are interpolated to the window's edges; where processes of the worker ended between the last sample inside
    and the next, what they used since is not known, and the figures end with that sample (`covered_s`). `*_cores` are
    mean cores in use, `*_share` parts of all cores' time (0 to 1). What /proc does not tell is None.
    """
    rows = samples.between(start_ns, end_ns)
    if len(rows) < 2:
        return None
    edges = np.clip([start_ns, end_ns], rows["time_ns"][0], rows["time_ns"][-1])
    if rows["worker_processes"][-1] < rows["worker_processes"][-2] and rows["time_ns"][-2] > edges[0]:
        edges[1] = min(edges[1], rows["time_ns"][-2])
    seconds = float(edges[1] - edges[0]) / 1e9
    if seconds <= 0:
        return None

    def spent(name: str) -> float | None:
        """How far a counter rose between the edges."""
        known = rows[rows[name] >= 0]
        return float(np.diff(np.interp(edges, known["time_ns"], known[name]))[0]) if len(known) > 1 else None

    user, system, harness = (spent(n) or 0.0 for n in ("worker_user_s", "worker_system_s", "harness_cpu_s"))
    busy, idle, iowait, steal = (spent(f"machine_{n}_s") or 0.0 for n in ("busy", "idle", "iowait", "steal"))
    machine = busy + idle + iowait + steal
    other = max(busy - user - system - harness, 0.0)
    voluntary, involuntary = spent("worker_voluntary_switches"), spent("worker_involuntary_switches")
    available = rows["available_bytes"][rows["available_bytes"] >= 0]
    return {
        "covered_s": seconds,
        "cpus": samples.facts.get("cpus"),
        "worker_user_s": user,
        "worker_system_s": system,
        "worker_cores": (user + system) / seconds,
        "worker_rss_mean_bytes": int(rows["worker_rss_bytes"].mean()),
        "worker_rss_peak_bytes": int(rows["worker_rss_bytes"].max()),
        "worker_threads_max": int(rows["worker_threads"].max()),
        "worker_processes_max": int(rows["worker_processes"].max()),
        "worker_major_faults": _whole(spent("worker_major_faults")),
        "worker_voluntary_switches_per_s": None if voluntary is None else voluntary / seconds,
        "worker_involuntary_switches_per_s": None if involuntary is None else involuntary / seconds,
        "harness_cores": harness / seconds,
        "other_cores": other / seconds,
        "other_share": other / machine if machine > 0 else None,
        "busy_share": busy / machine if machine > 0 else None,
        "iowait_share": iowait / machine if machine > 0 else None,
        "steal_share": steal / machine if machine > 0 else None,
        "available_least_bytes": int(available.min()) if len(available) else None,
        "swap_in_bytes": _whole(spent("swap_in_bytes")),
        "swap_out_bytes": _whole(spent("swap_out_bytes")),
    }


def memory_bytes(samples: Samples | None, phases: Mapping[str, int]) -> dict[str, int | None]:
    """Resident memory of the worker's processes when each phase was over, and the most of all samples.

    `phases` holds the monotonic ns at which the phases `load`, `warmup`, `measure` and `close` began; what was not
    reached or not sampled is None.
    """
    begins = {"before_load": "load", "after_load": "warmup", "after_warmup": "measure", "after_measure": "close"}
    table = np.empty(0, dtype=HOST) if samples is None else samples.table
    out: dict[str, int | None] = {}
    for name, phase in begins.items():
        moment = phases.get(phase)
        at = -1 if moment is None else int(np.searchsorted(table["time_ns"], moment, side="right")) - 1
        out[name] = int(table["worker_rss_bytes"][at]) if at >= 0 else None
    out["peak"] = int(table["worker_rss_bytes"].max()) if len(table) else None
    return out


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
