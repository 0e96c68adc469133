"""Where the time of the steps went."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from innerloop.engines.worker.trace import REQUEST, STEP
from innerloop.harness.analysis.steps import (
    bubble_s,
    gaps_ns,
    level,
    other_host_ns,
    step_s,
    step_share,
    time_share,
    usual_batch,
)
from innerloop.harness.schema.common import Level
from tests.harness.conftest import MS, Make, table

NOBODY = np.empty(0, dtype=REQUEST)


def test_phases_and_remainder_of_two_steps(make_steps: Make) -> None:
    # walls 10 and 30; schedule 1 and 3; execute 6 and 20; what is left: 3 and 7
    steps = make_steps([0, 10], [10, 40], schedule_ns=[1 * MS, 3 * MS], execute_ns=[6 * MS, 20 * MS])
    found, shares = step_s(steps, NOBODY), step_share(steps)
    assert found.wall.mean == pytest.approx(0.020)
    assert found.schedule.mean == pytest.approx(0.002)
    assert found.other_host.mean == pytest.approx(0.005)
    assert shares.schedule == pytest.approx(4 / 40)
    assert shares.execute == pytest.approx(26 / 40)
    assert shares.other_host == pytest.approx(10 / 40)


def test_a_phase_that_is_never_reported_is_missing(make_steps: Make) -> None:
    steps = make_steps([0], [10], execute_ns=[6 * MS])
    assert step_s(steps, NOBODY).sample.mean is None
    assert step_share(steps).sample is None


def test_without_execute_there_is_no_remainder(make_steps: Make) -> None:
    steps = make_steps([0], [10], schedule_ns=[1 * MS])
    assert len(other_host_ns(steps)) == 0
    assert step_share(steps).other_host is None


def test_steps_with_and_without_prefill_are_told_apart(make_steps: Make) -> None:
    steps = make_steps([0, 100, 200], [50, 110, 210], prefill_tokens=[64, 0, -1])
    found = step_s(steps, NOBODY)
    assert [one.count for one in (found.with_prefill, found.decode_only)] == [1, 1]
    assert [one.mean for one in (found.with_prefill, found.decode_only)] == pytest.approx([0.05, 0.01])


def test_a_gap_with_work_is_a_bubble_and_one_without_is_idle(make_steps: Make, make_requests: Make) -> None:
    # window 0 to 100. Request 0: due 5, ends 40. Request 1: due 60, ends 90.
    # 0 to 10: idle till 5, then a bubble. 20 to 30: bubble. 40 to 70: idle till 60, then a bubble. 90 to 100: idle.
    steps = make_steps([10, 30, 70], [20, 40, 90])
    requests = make_requests([5, 60], [20, 90], [40, 90], [2, 1])
    length, idle, bubble = gaps_ns(steps, requests, 0, 100 * MS)
    assert (length / MS).tolist() == [10, 10, 30, 10]
    assert (idle / MS).tolist() == [5, 0, 20, 10]
    assert (bubble / MS).tolist() == [5, 10, 10, 0]
    assert asdict(time_share(steps, requests, 0, 100 * MS)) == {
        "steps": pytest.approx(0.40),
        "bubbles": pytest.approx(0.25),
        "idle": pytest.approx(0.35),
    }


def test_bubbles_between_steps_leave_out_the_windows_edges(make_steps: Make, make_requests: Make) -> None:
    steps = make_steps([10, 30, 50], [20, 40, 60])
    found = bubble_s(steps, make_requests([0], [20], [60], [3]))
    assert found.count == 2
    assert found.max == pytest.approx(0.010)


def test_a_cut_request_is_work_to_the_end(make_steps: Make, make_requests: Make) -> None:
    steps = make_steps([0], [10])
    requests = make_requests([0], [10], [10], [1], ["cut"])
    assert (gaps_ns(steps, requests, 0, 30 * MS)[2] / MS).tolist() == [0, 20]


def test_overlapping_steps_have_no_negative_gap(make_steps: Make, make_requests: Make) -> None:
    length, _, _ = gaps_ns(make_steps([0, 5], [10, 20]), make_requests([0], [10], [20], [2]), 0, 20 * MS)
    assert (length >= 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_steps_bubbles_and_idle_add_up_to_the_window(make_steps: Make, make_requests: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 1000, 40))
    due = np.sort(rng.integers(0, 900, 9))
    last = due + rng.integers(1, 200, 9)
    steps = make_steps(times[::2], times[1::2])
    requests = make_requests(due.tolist(), last.tolist(), last.tolist(), [1] * 9)
    shares = time_share(steps, requests, 0, 1100 * MS)
    assert shares.steps == pytest.approx((times[1::2] - times[::2]).sum() / 1100)
    assert all(value is not None and 0 <= value <= 1 for value in asdict(shares).values())
    assert sum(value or 0 for value in asdict(shares).values()) == pytest.approx(1)


def test_a_level_is_weighted_by_the_time_that_steps_took(make_steps: Make) -> None:
    # 2 for 30 ms and 8 for 10 ms: (60 + 80) / 40 = 3.5
    steps = make_steps([0, 30], [30, 40], running=[2, 8])
    assert level(steps, "running") == Level(3.5, 8)


def test_a_level_that_is_not_reported_is_missing(make_steps: Make) -> None:
    assert level(make_steps([0], [10]), "kv_usage") == Level(None, None)


def test_the_usual_batch_is_that_of_most_of_the_time():
    steps = table(STEP, start_ns=[0, 10, 20, 30], end_ns=[10, 20, 30, 130], running=[40, 40, 40, 20])
    assert usual_batch(steps) == [20, 38]
    steps["running"] = -1
    assert usual_batch(steps) == [None, None]
    assert usual_batch(steps[:0]) == [None, None]


def test_an_observed_engine_has_no_bubbles(make_steps: Make, make_requests: Make) -> None:
    steps = make_steps([10, 40], [20, 60])
    requests = make_requests([0], [20], [60], [3])
    found = time_share(steps, requests, 0, 100 * MS, observed=True)
    assert found.steps is found.bubbles is None
    assert found.idle == pytest.approx(0.4)
    assert step_s(steps, requests, observed=True).bubble.count == 0
    assert step_s(steps, requests).bubble.count == 1
