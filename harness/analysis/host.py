"""The host over a window, from its samples: the worker's processes, the machine, and everybody else on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from innerloop.harness.analysis.samples import Samples
from innerloop.harness.schema.telemetry import Host


def summary(samples: Samples, start_ns: int, end_ns: int) -> Host | None:
    """The host over [start_ns, end_ns]; None with fewer than two samples around it.

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
        at, counted = known["time_ns"], known[name]
        if len(known) < 2:
            return None
        begin, end = np.interp(edges, at, counted).tolist()
        return float(end - begin)

    user, system, harness = (spent(name) for name in ("worker_user_s", "worker_system_s", "harness_cpu_s"))
    busy, idle, iowait, steal = (spent(f"machine_{name}_s") for name in ("busy", "idle", "iowait", "steal"))
    machine = _added(busy, idle, iowait or 0.0, steal or 0.0)  # old kernels count these two as idle
    if not machine:  # some sandboxes show counters that stand still
        busy = iowait = steal = machine = None
    worker = _added(user, system)
    ours = _added(worker, harness)
    other = None if busy is None or ours is None else max(busy - ours, 0.0)
    voluntary, involuntary = spent("worker_voluntary_switches"), spent("worker_involuntary_switches")
    alive = rows[rows["worker_processes"] > 0]  # after its end there is nothing to count
    available = rows["available_bytes"][rows["available_bytes"] >= 0]
    return Host(
        covered_s=seconds,
        cpus=samples.facts.get("cpus"),
        worker_user_s=user,
        worker_system_s=system,
        worker_cores=_part(worker, seconds),
        worker_rss_mean_bytes=int(alive["worker_rss_bytes"].mean()) if len(alive) else None,
        worker_rss_peak_bytes=_most(alive["worker_rss_bytes"]),
        worker_threads_max=_most(alive["worker_threads"]),
        worker_processes_max=_most(alive["worker_processes"]),
        worker_major_faults=_whole(spent("worker_major_faults")),
        worker_voluntary_switches_per_s=_part(voluntary, seconds),
        worker_involuntary_switches_per_s=_part(involuntary, seconds),
        harness_cores=_part(harness, seconds),
        other_cores=_part(other, seconds),
        other_share=_part(other, machine),
        busy_share=_part(busy, machine),
        iowait_share=_part(iowait, machine),
        steal_share=_part(steal, machine),
        available_least_bytes=int(available.min()) if len(available) else None,
        swap_in_bytes=_whole(spent("swap_in_bytes")),
        swap_out_bytes=_whole(spent("swap_out_bytes")),
    )


def memory_bytes(samples: Samples | None, phases: Mapping[str, int]) -> dict[str, int | None]:
    """Resident memory of the worker's processes when each phase was over, and the most of all samples.

    `phases` holds the monotonic ns at which the phases `load`, `warmup`, `measure` and `close` began; what was not
    reached or not sampled is None.
    """
    begins = {"before_load": "load", "after_load": "warmup", "after_warmup": "measure", "after_measure": "close"}
    if samples is None:
        return dict.fromkeys((*begins, "peak"))
    table = samples.table
    out: dict[str, int | None] = {}
    for name, phase in begins.items():
        moment = phases.get(phase)
        at = -1 if moment is None else int(np.searchsorted(table["time_ns"], moment, side="right")) - 1
        out[name] = int(table["worker_rss_bytes"][at]) if at >= 0 and table["worker_processes"][at] > 0 else None
    out["peak"] = _most(table["worker_rss_bytes"][table["worker_processes"] > 0])
    return out


def _added(*parts: float | None) -> float | None:
    """Their sum; a part would pass for the whole."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _part(value: float | None, whole: float | None) -> float | None:
    return value / whole if value is not None and whole else None


def _most(column: np.ndarray) -> int | None:
    return int(column.max()) if len(column) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
