"""The steady window's rule for each kind of load."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.windows import Span, kind_of, out_of_requests_ns, steady_span
from tests.harness.conftest import MS, SECOND, Make


def steps_every(make_steps: Make, ms: int, count: int, running: int = 4) -> np.ndarray:
    start = np.arange(count) * ms
    return make_steps(start, start + ms, running=[running] * count)


def test_kinds_of_load(make_requests: Make) -> None:
    one = {"first": [5, 6], "last": [9, 9], "tokens": [2, 2]}
    assert kind_of(make_requests([0, 0], **one)) == "offline"
    assert kind_of(make_requests([0, 1], **one)) == "open"
    assert kind_of(make_requests([0, 0], **one, user=[0, 1])) == "closed"


def test_an_offline_load_is_steady_while_the_batch_can_be_full(make_steps: Make, make_requests: Make) -> None:
    # ten requests, two at a time: from the second first token until eight of them have theirs
    first = [1000 * (k // 2) + 500 for k in range(10)]
    requests = make_requests([0] * 10, first, [f + 400 for f in first], [4] * 10)
    steps = steps_every(make_steps, 50, 100)
    assert steady_span(steps, requests, 0, 5 * SECOND, 2) == Span("full_batch", 500 * MS, 3500 * MS)


def test_as_many_requests_as_two_batches_only_fill_and_drain(make_steps: Make, make_requests: Make) -> None:
    requests = make_requests([0] * 8, [500] * 8, [900] * 8, [4] * 8)
    steps = steps_every(make_steps, 50, 100)
    assert steady_span(steps, requests, 0, 5 * SECOND, 4).missing == "too_few_requests"
    assert steady_span(steps, requests, 0, 5 * SECOND, None).missing == "too_few_requests"  # the largest batch was 4
    steps["running"] = -1
    assert steady_span(steps, requests, 0, 5 * SECOND, None).missing == "batch_unknown"


def test_a_closed_loop_is_steady_a_residence_after_its_last_user(make_steps: Make, make_requests: Make) -> None:
    # user 1 comes at 2 s; requests stay 1 s, 3 s and 2 s: median 2 s; at the end both are cut
    requests = make_requests(
        [0, 2000, 1000, 5000, 5100, None],
        [100, 2100, 1100, 5100, 5200, None],
        [1000, 5000, 3000, None, None, None],
        [4, 4, 4, 0, 0, 0],
        ["finished", "finished", "finished", "cut", "cut", "unsent"],
        user=[0, 1, 0, 0, 1, 0],
    )
    steps = steps_every(make_steps, 100, 100)
    assert steady_span(steps, requests, 0, 10 * SECOND, 8) == Span("after_last_user", 4 * SECOND, 10 * SECOND)
    requests["due_ns"] = -1  # of a damaged trace
    assert steady_span(steps, requests, 0, 10 * SECOND, 8).missing == "no_residence"


def test_a_user_who_runs_out_of_requests_closes_it(make_steps: Make, make_requests: Make) -> None:
    requests = make_requests([0, 0], [100, 100], [4000, 9000], [4, 4], user=[0, 1])
    assert out_of_requests_ns(requests) == 4 * SECOND
    steps = steps_every(make_steps, 100, 100)
    # the median residence is 6.5 s: it would open after it has closed
    assert steady_span(steps, requests, 0, 9 * SECOND, 8).missing == "too_short"
    requests["last_token_ns"][1] = -1
    requests["state"] = 1
    assert out_of_requests_ns(requests) is None
    assert steady_span(steps, requests, 0, 9 * SECOND, 8).missing == "no_residence"


def test_a_user_who_leaves_closes_it(make_steps: Make, make_requests: Make) -> None:
    # two users with a rest of 100 ms; user 1 has one more request at 3 s, and does not send it
    due = [0, 1100, 2200, 3300, 4400, None, 0, 1500, None]
    last = [1000, 2100, 3200, 4300, None, None, 1400, 2900, None]
    state = ["finished"] * 4 + ["cut", "unsent", "finished", "finished", "unsent"]
    requests = make_requests(
        due, last, last, [4 if one else 0 for one in last], state, user=[0, 0, 0, 0, 0, 0, 1, 1, 1]
    )
    steps = steps_every(make_steps, 50, 100)  # until 5 s
    assert steady_span(steps, requests, 0, 5 * SECOND, 8).end_ns == 2900 * MS
    # who rests is still there, and so is who was to send while the last step ran
    assert steady_span(steps[:60], requests, 0, 5 * SECOND, 8).end_ns == 5 * SECOND
    # where rests differ, nobody can tell
    requests["due_ns"][7] += MS
    assert steady_span(steps, requests, 0, 5 * SECOND, 8).end_ns == 5 * SECOND


def test_an_open_loop_is_steady_once_it_has_filled(make_steps: Make, make_requests: Make) -> None:
    # ten arrivals a second that stay 2 s each, for 100 s: 20 in the system from 2 s on, and arrivals end at 99.9 s
    due = [100.0 * k for k in range(1000)]
    requests = make_requests(due, [d + 50 for d in due], [d + 2000 for d in due], [4] * 1000)
    found = steady_span(steps_every(make_steps, 100, 1020), requests, 0, 102 * SECOND, 64)
    assert (found.rule, found.end_ns) == ("mser5", 99_900 * MS)
    assert found.start_ns is not None
    assert 1500 * MS <= found.start_ns <= 2500 * MS


def test_an_open_loop_whose_queue_only_grows_never_settles(make_steps: Make, make_requests: Make) -> None:
    due = [100.0 * k for k in range(1000)]
    requests = make_requests(due, [2 * d + 50 for d in due], [2 * d + 100 for d in due], [4] * 1000)
    assert steady_span(steps_every(make_steps, 100, 2000), requests, 0, 200 * SECOND, 64).missing == "never_settled"


def test_no_steps_and_nothing_due(make_steps: Make, make_requests: Make) -> None:
    requests = make_requests([None], [None], [None], [0], ["unsent"])
    steps = make_steps([], [])
    assert steady_span(steps, requests, 0, SECOND, 1).missing == "too_few_requests"
