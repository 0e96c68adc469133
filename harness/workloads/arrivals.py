"""When the requests of drawn lengths fall due: all at once, at times of their own, or after the same user's last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from innerloop.harness.profiles import Closed, Offline, Open, Seeds, WorkloadProfile
from innerloop.harness.profiles.loads import UsersFrom
from innerloop.harness.workloads import draws, mixes
from innerloop.harness.workloads.rates import NS, bounded, open_loop
from innerloop.harness.workloads.traces.times import times_of

FIRST_ROUNDS = 16


@dataclass(frozen=True, eq=False)
class Schedule:
    """When requests are due, and who sends them: see `Workload` for what the arrays are."""

    due_ns: npt.NDArray[np.int64]
    next_request: npt.NDArray[np.int32]
    user: npt.NDArray[np.int32]
    rest_ns: npt.NDArray[np.int64]
    duration_ns: npt.NDArray[np.int64]
    until_ns: npt.NDArray[np.int64] | None = None
    spread: npt.NDArray[np.int32] | None = None


def scheduled(workload: WorkloadProfile, seeds: Seeds, folder: Path | None = None) -> Schedule:
    """The schedule of an offline, open or closed load.

    Raises:
        Refused: no request falls due, more than can be prepared, or a file that cannot be used.
    """
    plan = workload.load
    if isinstance(plan, Closed):
        return _closed(plan, workload, seeds, folder)
    due = due_times(workload, seeds, folder)
    return Schedule(due, none(len(due)), none(len(due)), scalar(0), scalar(-1))


def due_times(workload: WorkloadProfile, seeds: Seeds, folder: Path | None = None) -> npt.NDArray[np.int64]:
    """Due time of every request in ns from the window's start, int64 [n]; -1: after its predecessor.

    Raises:
        Refused: none falls due, or more than can be prepared.
    """
    plan = workload.load
    if isinstance(plan, Offline):
        return np.zeros(bounded(plan.requests), dtype=np.int64)
    if isinstance(plan, Open):
        return times_of(plan, folder) if plan.arrivals == "file" else open_loop(plan, seeds.schedule)
    return scheduled(workload, seeds, folder).due_ns


def _closed(plan: Closed, workload: WorkloadProfile, seeds: Seeds, folder: Path | None) -> Schedule:
    """Request r * users + k is user k's r-th, and only the first has a time."""
    come, leave = _users(plan)
    users = len(come)
    count = bounded(_rounds(plan, users, workload, seeds, folder) * users)
    index = np.arange(count, dtype=np.int64)
    due = np.full(count, -1, dtype=np.int64)
    due[:users] = come
    return Schedule(
        due_ns=due,
        next_request=np.where(index + users < count, index + users, -1).astype(np.int32),
        user=(index % users).astype(np.int32),
        rest_ns=scalar(round(plan.rest_ms * 1e6)),
        duration_ns=scalar(-1 if plan.duration_s is None else round(plan.duration_s * NS)),
        until_ns=None if leave is None else leave[index % users],
        spread=np.where(index < users, index, -1).astype(np.int32) if plan.start == "residence" else None,
    )


def _users(plan: Closed) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """When each user comes and, where users leave, when it sends no more (-1: never), in ns, int64 [users]."""
    if plan.users_over_time is None:
        users = plan.users or 0
        return np.rint(np.arange(users) * (plan.arrive_over_s * NS / users)).astype(np.int64), None
    return _users_over_time(plan.users_over_time)


def _users_over_time(schedule: list[UsersFrom]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    come: list[int] = []
    leave: list[int] = []
    here: list[int] = []  # users, the one that came last at the end
    for one in schedule:
        at_ns = round(one.at_s * NS)
        while len(here) > one.users:
            leave[here.pop()] = at_ns
        while len(here) < one.users:
            here.append(len(come))
            come.append(at_ns)
            leave.append(-1)
    return np.array(come, dtype=np.int64), np.array(leave, dtype=np.int64)


def _rounds(plan: Closed, users: int, workload: WorkloadProfile, seeds: Seeds, folder: Path | None) -> int:
    """How many requests each user gets: the asked number, else enough for the duration at the highest rate foreseen."""
    if plan.requests_per_user is not None:
        return plan.requests_per_user
    rate, rest_s, tried = plan.max_tokens_per_s_per_user, plan.rest_ms / 1e3, FIRST_ROUNDS
    while True:
        class_of = mixes.classes_of(workload, bounded(tried * users), seeds.lengths)
        outputs = mixes.lengths_of(workload, class_of, seeds, folder)[1]
        spent_s = np.cumsum((outputs / rate + rest_s).reshape(tried, users), axis=0).min(axis=1)
        if spent_s[-1] >= (plan.duration_s or 0):
            return int(np.searchsorted(spent_s, plan.duration_s or 0)) + 1
        tried *= 2


def none(count: int) -> npt.NDArray[np.int32]:
    """-1 for each request."""
    return np.full(count, -1, dtype=np.int32)


def scalar(value: int) -> npt.NDArray[np.int64]:
    return np.array(value, dtype=np.int64)


def think_ns(mean_s: float, kind: str, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Times between a turn and the next, int64 [count]."""
    if kind == "constant":
        return np.full(count, round(mean_s * NS), dtype=np.int64)
    return np.rint(draws.exponential(draws.key(seed, draws.THINK), count) * (mean_s * NS)).astype(np.int64)
