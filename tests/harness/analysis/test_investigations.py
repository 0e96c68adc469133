"""The slowest steps, preemption storms, what prefill does to others, and intervals side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker.trace import REQUEST, STATES, STEP, TOKEN
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.interference import interference
from innerloop.harness.analysis.lanes import lanes
from innerloop.harness.analysis.preemptions import preemptions
from innerloop.harness.analysis.slowest import slowest
from innerloop.harness.schema.investigation import Preemptions
from tests.harness.conftest import MS, offline_run, table


def slow(made, count, expected=None, bound=None):
    steps, tokens, requests = made["steps"], made["tokens"], made["requests"]
    done = work(steps, tokens, requests)
    expected = np.full(len(steps), np.nan) if expected is None else expected
    edges = (int(steps["start_ns"][0]), int(steps["end_ns"][-1])) if len(steps) else (0, 0)
    return slowest(steps, requests, done, expected, bound, window=edges, count=count)


def test_the_slowest_step_comes_first_with_what_was_in_it():
    made = offline_run(requests=4, output=10)
    made["steps"]["end_ns"][6] += 500_000  # 39.5 ms, and a gap of 0.5 ms behind it
    first, second = slow(made, 2, expected=np.full(10, 0.039), bound=np.full(10, 0.01))
    assert first.step == 6
    assert first.wall_s == pytest.approx(0.0395)
    assert first.expected_s == 0.039
    assert first.bound_s == 0.01
    assert first.decode_positions == 4
    assert first.context_tokens == 4 * (16 + 5)  # the sixth token of each lies in the cache with the prompt
    assert first.phases_s["execute"] == pytest.approx(0.03)
    assert first.phases_s["sample"] is None
    assert first.bubble_before_s == pytest.approx(0.001)
    assert first.bubble_after_s == pytest.approx(0.0005)
    assert second.step == 0  # of equals the earlier


def test_there_are_no_more_slowest_steps_than_steps():
    made = offline_run(requests=2, output=3)
    assert len(slow(made, 50)) == 3
    assert slow(made, 0) == ()
    assert slow({**made, "steps": made["steps"][:0], "tokens": made["tokens"][:0]}, 5) == ()


def steps_with(preempted, **columns):
    n = len(preempted)
    columns.setdefault("prefill_tokens", np.zeros(n))
    start = np.arange(n) * 10 * MS
    return table(STEP, start_ns=start, end_ns=start + 10 * MS, preempted=preempted, **columns)


def test_preemptions_close_together_are_a_storm():
    preempted = np.zeros(200, dtype=int)
    preempted[[10, 12, 30, 100, 150, 151]] = [1, 2, 1, 1, 1, 1]
    prefill = np.zeros(200)
    prefill[[0, 20]] = [300, 100]
    found: Any = preemptions(steps_with(preempted, prefill_tokens=prefill, kv_usage=np.full(200, 0.99)), 0)
    assert (found.count, found.steps, found.storm_count) == (7, 6, 1)
    [storm] = found.storms
    assert (storm.first_step, storm.last_step, storm.preempted) == (10, 30, 4)
    assert storm.duration_s == pytest.approx(0.21)
    assert storm.share_of_prefill == pytest.approx(0.25)
    assert storm.kv_usage == 0.99


def test_no_preemptions_is_not_the_same_as_not_reported():
    assert preemptions(steps_with([0, 0]), 0) == Preemptions(count=0, steps=0, storms=(), storm_count=0)
    assert preemptions(steps_with([0, -1]), 0) is None
    assert preemptions(steps_with([]), 0) is None


def arriving(times_ms, steps, requests):
    return table(TOKEN, time_ns=np.multiply(times_ms, MS), request=requests, count=np.ones(len(steps)), step=steps)


def two_requests():
    state = [STATES.index("cut")] * 2
    return table(REQUEST, due_ns=[0, 0], first_token_ns=[10, 10], prompt_tokens=[4, 4], state=state)


def test_tokens_that_waited_for_prefill_are_told_from_the_others():
    steps = steps_with([0] * 4, prefill_tokens=[4, 0, 4, 0])  # request 1 comes in step 2, and request 0 waits for it
    tokens = arriving([10, 20, 50, 50, 60, 60], [0, 1, 2, 2, 3, 3], [0, 0, 0, 1, 0, 1])
    found: Any = interference(steps, tokens, two_requests())
    assert found.with_prefill.count == 1
    assert found.with_prefill.p50 == pytest.approx(0.030)
    assert found.decode_only.count == 3
    assert found.decode_only.max == pytest.approx(0.010)
    assert found.stalled_share == 0.25
    assert found.lost_share == pytest.approx(20 / 60)


def test_a_prefill_step_that_gave_the_request_no_token_counts_too():
    steps = steps_with([0] * 3, prefill_tokens=[4, 4, 0])
    found: Any = interference(steps, arriving([10, 40], [0, 2], [0, 0]), two_requests())
    assert found.stalled_share == 1
    assert found.lost_share is None  # there is no undisturbed token to compare with


def test_interference_of_empty_and_silent_runs():
    steps = steps_with([0, 0])
    nothing: Any = interference(steps, arriving([], [], []), two_requests())
    assert nothing.stalled_share is None
    assert nothing.decode_only.count == 0
    assert interference(steps[:0], arriving([], [], []), two_requests()) is None
    assert interference(steps_with([0], prefill_tokens=[-1]), arriving([], [], []), two_requests()) is None


def test_intervals_of_a_lane_never_overlap_and_lanes_are_as_few_as_can_be():
    rng = np.random.default_rng(0)
    begin = rng.integers(0, 1000, 500)
    end = begin + rng.integers(0, 50, 500)
    found = lanes(begin, end)
    for lane in range(found.max() + 1):
        rows = np.flatnonzero(found == lane)
        rows = rows[np.lexsort((end[rows], begin[rows]))]
        assert (begin[rows][1:] >= end[rows][:-1]).all()
    deepest = max(int(((begin <= t) & (end > t)).sum()) for t in range(1050))
    assert found.max() + 1 <= deepest + 1  # an empty interval may need a lane of its own


def test_intervals_that_touch_share_a_lane():
    assert lanes(np.array([0, 5, 5]), np.array([5, 9, 9])).tolist() == [0, 0, 1]
    assert lanes(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []
