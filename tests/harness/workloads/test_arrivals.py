"""Due times: all at once, at a rate, or one user after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import Seeds, WorkloadProfile, load_workload, parse_seeds
from innerloop.harness.profiles.validation import validate
from innerloop.harness.workloads import lengths
from innerloop.harness.workloads.arrivals import NS, due_times


def workload(output: Any = 10, **load: Any) -> WorkloadProfile:
    fields = {"name": "test", "prompt": {"tokens": 4}, "output": {"tokens": output}, "load": load}
    return validate(WorkloadProfile, fields, "test")


ONE = parse_seeds(1)


def test_offline_requests_are_all_due_at_once() -> None:
    assert due_times(workload(kind="offline", requests=3), ONE).tolist() == [0, 0, 0]


def test_constant_arrivals_come_one_every_period() -> None:
    plan = workload(kind="open", arrivals="constant", rate_per_s=4, requests=3)
    assert due_times(plan, ONE).tolist() == [0, NS // 4, NS // 2]


def test_constant_arrivals_stop_at_the_duration() -> None:
    plan = workload(kind="open", arrivals="constant", rate_per_s=4, duration_s=1)
    assert due_times(plan, ONE).tolist() == [0, NS // 4, NS // 2, 3 * NS // 4]


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    due = due_times(workload(kind="open", rate_per_s=8, requests=20_000), ONE)
    gaps = np.diff(due) / NS
    assert (gaps > 0).all()
    assert (gaps.mean(), gaps.std()) == pytest.approx((1 / 8, 1 / 8), rel=0.02)
    assert (gaps > 1 / 8).mean() == pytest.approx(np.exp(-1), abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_poisson_arrivals_fill_the_duration(seed: int) -> None:
    due = due_times(workload(kind="open", rate_per_s=16, duration_s=300), parse_seeds(seed))
    assert len(due) == pytest.approx(4800, abs=4 * 4800**0.5)
    assert 295 < due[-1] / NS < 300


def test_the_schedule_seed_alone_moves_open_arrivals() -> None:
    plan = workload(kind="open", rate_per_s=8, requests=50)
    same = due_times(plan, Seeds(content=5, lengths=6, schedule=1))
    assert (due_times(plan, ONE) == same).all()
    assert (due_times(plan, Seeds(content=1, lengths=1, schedule=2)) != same).any()


def test_users_arrive_one_after_the_other() -> None:
    plan = workload(kind="closed", users=4, arrive_over_s=2, requests_per_user=3)
    due = due_times(plan, ONE)
    assert due.tolist() == [0, NS // 2, NS, 3 * NS // 2] + [-1] * 8


@pytest.mark.parametrize("output", [10, {"kind": "lognormal", "median": 200, "sigma": 0.8, "min": 8, "max": 512}])
def test_no_user_runs_out_of_requests_at_the_highest_rate_foreseen(output: Any) -> None:
    plan = workload(
        output, kind="closed", users=3, rest_ms=10, arrive_over_s=2, duration_s=60, max_tokens_per_s_per_user=100
    )
    rounds = len(due_times(plan, ONE)) // 3
    outputs = lengths.draw(plan.mix[0].output.tokens, 3 * rounds, 1, lengths.OUTPUT).reshape(rounds, 3)
    busy_s = (outputs / 100 + 0.01).sum(axis=0)
    assert busy_s.min() >= 60
    assert busy_s.min() - (outputs[-1] / 100 + 0.01).max() < 60  # and no round more than that


def test_a_rate_at_which_nothing_falls_due_is_refused() -> None:
    with pytest.raises(Refused, match=r"load\.rate_per_s \(0\.001\) x load\.duration_s \(1\)"):
        due_times(workload(kind="open", rate_per_s=0.001, duration_s=1), ONE)


@pytest.mark.parametrize(
    "load",
    [
        {"kind": "open", "rate_per_s": 1e6, "duration_s": 600_000},
        {"kind": "closed", "users": 100_000, "requests_per_user": 10_000},
        {"kind": "closed", "users": 100_000, "duration_s": 600_000, "max_tokens_per_s_per_user": 1e6},
    ],
)
def test_more_requests_than_can_be_prepared_are_refused(load: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="the limit is 20\u202f000\u202f000"):
        due_times(workload(**load), ONE)


def test_every_user_of_the_study_has_arrived_after_20_seconds() -> None:
    due = due_times(load_workload("users-100"), ONE)
    assert due[:100].tolist() == [k * NS // 5 for k in range(100)]
    assert (due[100:] == -1).all()
