"""Work done per second of a window."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from innerloop.harness.analysis.throughput import throughput
from innerloop.harness.schema.window import Throughput
from tests.harness.conftest import MS, SECOND, Make


def test_a_hand_worked_window_of_two_seconds(make_steps: Make, make_requests: Make) -> None:
    steps = make_steps([0, 1000], [1000, 2000], prefill_tokens=[30, 0], output_tokens=[2, 6], decode_tokens=[0, 6])
    # prompts of 20 and 10; request 0: 5 tokens, first at 1 s, last at 2 s: 4 tokens in 1 s; request 1 still runs
    requests = make_requests([0, 0], [1000, 1000], [2000, 2000], [5, 3], ["finished", "cut"], prompt_tokens=[20, 10])
    assert asdict(throughput(steps, requests, 0, 2 * SECOND)) == {
        "prefill_positions_per_s": pytest.approx(15.0),
        "output_tokens_per_s": pytest.approx(4.0),
        "total_tokens_per_s": pytest.approx((30 + 8) / 2),
        "tokens_per_s_per_user": pytest.approx(4.0),
        "requests_per_s": pytest.approx(0.5),
    }


def test_what_lies_outside_the_window_does_not_count(make_steps: Make, make_requests: Make) -> None:
    steps = make_steps([0, 1000, 2000], [1000, 2000, 3000], prefill_tokens=[8, 0, 0], output_tokens=[100, 6, 100])
    requests = make_requests([0, 0], [1000, 3000], [3000, 3000], [2, 1], prompt_tokens=[8, 8])
    found = throughput(steps, requests, 1001 * MS, 2001 * MS)
    assert found.output_tokens_per_s == pytest.approx(6.0)
    assert found.prefill_positions_per_s == 0.0
    assert found.total_tokens_per_s == pytest.approx(6.0)
    assert found.requests_per_s == 0.0


def test_prefill_that_the_engine_does_not_report_is_missing_and_the_rest_is_not(
    make_steps: Make, make_requests: Make
) -> None:
    steps = make_steps([0, 500], [500, 1000], output_tokens=[1, 1], prefill_tokens=[10, -1])
    found = throughput(steps, make_requests([0], [500], [1000], [2]), 0, SECOND)
    assert found.prefill_positions_per_s is None
    assert found.total_tokens_per_s == pytest.approx(12.0)


def test_tokens_that_all_came_at_once_are_no_infinite_speed(make_steps: Make, make_requests: Make) -> None:
    steps = make_steps([0], [1000], output_tokens=[4])
    assert throughput(steps, make_requests([0], [1000], [1000], [4]), 0, SECOND).tokens_per_s_per_user is None


@pytest.mark.parametrize("end_ns", [0, -1])
def test_an_empty_window_has_no_rates(make_steps: Make, make_requests: Make, end_ns: int) -> None:
    steps = make_steps([0], [0], output_tokens=[4])
    assert throughput(steps, make_requests([0], [0], [0], [4]), 0, end_ns) == Throughput()


def test_a_window_without_steps_has_no_rates(make_steps: Make, make_requests: Make) -> None:
    assert throughput(make_steps([], []), make_requests([], [], [], []), 0, SECOND) == Throughput()
