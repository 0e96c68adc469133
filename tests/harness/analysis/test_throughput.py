"""Work done per second of a window."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from innerloop.engines.worker.trace import TOKEN
from innerloop.harness.analysis import throughput as analysis
from innerloop.harness.analysis.latency import first_tokens, gaps_of
from innerloop.harness.schema.window import Throughput
from tests.harness.conftest import MS, SECOND, Make, table

NO_TOKENS = table(TOKEN, time_ns=[], request=[], count=[], step=[])


def throughput(
    steps: np.ndarray, requests: np.ndarray, start_ns: int, end_ns: int, tokens: np.ndarray = NO_TOKENS
) -> Throughput:
    return analysis.throughput(steps, requests, first_tokens(requests, tokens), gaps_of(tokens), start_ns, end_ns)


def test_a_hand_worked_window_of_two_seconds(make_steps: Make, make_requests: Make, make_tokens: Make) -> None:
    steps = make_steps([0, 1000], [1000, 2000], prefill_tokens=[30, 0], output_tokens=[2, 6], decode_tokens=[0, 6])
    # prompts of 20 and 10; request 0: 5 tokens, first at 1 s, last at 2 s: 4 tokens in 1 s; request 1 still runs
    requests = make_requests([0, 0], [1000, 1000], [2000, 2000], [5, 3], ["finished", "cut"], prompt_tokens=[20, 10])
    # arrivals: 4 tokens of request 0 in 1 s, 2 of request 1 in 0.5 s: 6 tokens in 1.5 s of waiting
    tokens = make_tokens([1000, 1000, 1500, 2000], [0, 1, 1, 0], [1, 1, 2, 4])
    assert asdict(throughput(steps, requests, 0, 2 * SECOND, tokens)) == {
        "prefill_positions_per_s": pytest.approx(15.0),
        "output_tokens_per_s": pytest.approx(4.0),
        "total_tokens_per_s": pytest.approx((30 + 8) / 2),
        "tokens_per_s_per_user": pytest.approx(4.0),
        "requests_per_s": pytest.approx(0.5),
        "tokens_per_s_per_request": pytest.approx(4.0),
        "user_tokens": 6,
        "output_tokens_per_s_ci": None,
        "tokens_per_s_per_user_ci": None,
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
