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
        return float(np.diff(np.interp(edges, known["time_ns"], known[name]))[0]) if len(known) > 1 else None

    user, system, harness = (spent(n) or 0.0 for n in ("worker_user_s", "worker_system_s", "harness_cpu_s"))
    busy, idle, iowait, steal = (spent(f"machine_{n}_s") or 0.0 for n in ("busy", "idle", "iowait", "steal"))
    machine = busy + idle + iowait + steal
    other = max(busy - user - system - harness, 0.0)
    voluntary, involuntary = spent("worker_voluntary_switches"), spent("worker_involuntary_switches")
    available = rows["available_bytes"][rows["available_bytes"] >= 0]
    return Host(
        covered_s=seconds,
        cpus=samples.facts.get("cpus"),
        worker_user_s=user,
        worker_system_s=system,
        worker_cores=(user + system) / seconds,
        worker_rss_mean_bytes=int(rows["worker_rss_bytes"].mean()),
        worker_rss_peak_bytes=int(rows["worker_rss_bytes"].max()),
        worker_threads_max=int(rows["worker_threads"].max()),
        worker_processes_max=int(rows["worker_processes"].max()),
        worker_major_faults=_whole(spent("worker_major_faults")),
        worker_voluntary_switches_per_s=None if voluntary is None else voluntary / seconds,
        worker_involuntary_switches_per_s=None if involuntary is None else involuntary / seconds,
        harness_cores=harness / seconds,
        other_cores=other / seconds,
        other_share=other / machine if machine > 0 else None,
        busy_share=busy / machine if machine > 0 else None,
        iowait_share=iowait / machine if machine > 0 else None,
        steal_share=steal / machine if machine > 0 else None,
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
        out[name] = int(table["worker_rss_bytes"][at]) if at >= 0 else None
    out["peak"] = int(table["worker_rss_bytes"].max()) if len(table) else None
    return out


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
