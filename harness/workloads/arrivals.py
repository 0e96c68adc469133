"""When requests fall due: all at once, at times of their own, or after the same user's last one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import number
from innerloop.harness.profiles import Closed, Offline, Open, Seeds, WorkloadProfile
from innerloop.harness.workloads import draws, lengths

NS = 1_000_000_000
MAX_REQUESTS = 20_000_000


def due_times(workload: WorkloadProfile, seeds: Seeds, folder: Path | None = None) -> npt.NDArray[np.int64]:
    """Due time of every request in ns from the window's start, int64 [n]; -1: after its predecessor.

    Raises:
        Refused: none falls due, or more than can be prepared.
    """
    plan = workload.load
    if isinstance(plan, Offline):
        return np.zeros(_bounded(plan.requests), dtype=np.int64)
    if isinstance(plan, Open):
        return _open(plan, seeds.schedule)
    return _closed(plan, _rounds(plan, workload, seeds, folder))


def _open(plan: Open, seed: int) -> npt.NDArray[np.int64]:
    """Due times in ns, int64 [n], ascending.

    Raises:
        Refused: none falls due within the duration, or too many.
    """
    end_ns = round(plan.duration_s * NS) if plan.duration_s is not None else None
    expected = plan.requests or plan.rate_per_s * (plan.duration_s or 0)
    count = plan.requests or _bounded(int(expected + 8 * expected**0.5) + 16)
    if plan.arrivals == "constant":
        due = np.rint(np.arange(_bounded(count)) * (NS / plan.rate_per_s)).astype(np.int64)
    else:
        gaps = draws.exponential(draws.key(seed, draws.SCHEDULE), _bounded(count)) * (NS / plan.rate_per_s)
        due = np.cumsum(np.rint(gaps).astype(np.int64))  # whole ns first: a sum of floats differs between machines
    if end_ns is not None:
        due = due[due < end_ns]
    if not len(due):
        raise Refused(
            f"no request would be sent: load.rate_per_s ({plan.rate_per_s:g}) x load.duration_s ({plan.duration_s:g}) "
            "is too small"
        )
    return due


def _closed(plan: Closed, rounds: int) -> npt.NDArray[np.int64]:
    """Due times in ns, int64 [rounds * users]: request r * users + k is user k's r-th, and only the first has one."""
    due = np.full(_bounded(rounds * plan.users), -1, dtype=np.int64)
    due[: plan.users] = np.rint(np.arange(plan.users) * (plan.arrive_over_s * NS / plan.users)).astype(np.int64)
    return due


def _rounds(plan: Closed, workload: WorkloadProfile, seeds: Seeds, folder: Path | None) -> int:
    """How many requests each user gets: the asked number, else enough for the duration at the highest rate foreseen."""
    if plan.requests_per_user is not None:
        return plan.requests_per_user
    rate, rest_s, tried = plan.max_tokens_per_s_per_user, plan.rest_ms / 1e3, 16
    while True:
        count = _bounded(tried * plan.users)
        outputs = lengths.draw(workload.output.tokens, count, seeds.lengths, lengths.OUTPUT, folder)
        spent_s = np.cumsum((outputs / rate + rest_s).reshape(tried, plan.users), axis=0).min(axis=1)
        if spent_s[-1] >= (plan.duration_s or 0):
            return int(np.searchsorted(spent_s, plan.duration_s or 0)) + 1
        tried *= 2


def _bounded(count: int) -> int:
    if count > MAX_REQUESTS:
        raise Refused(f"the workload has {number(count)} requests; the limit is {number(MAX_REQUESTS)}")
    return count
