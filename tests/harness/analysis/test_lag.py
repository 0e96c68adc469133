"""How late requests were submitted, and how much of it the step in progress excuses."""

from __future__ import annotations

from innerloop.harness.analysis.lag import avoidable_lag_ns, send_lag_ns
from tests.harness.conftest import MS, Make


def test_a_step_in_progress_excuses_a_lag_until_it_ends(make_steps: Make, make_requests: Make) -> None:
    # steps from 10 to 30 ms and from 40 to 50 ms
    steps = make_steps([10, 40], [30, 50])
    requests = make_requests(
        [5, 12, 33, 45, 30, None],
        [60] * 5 + [None],
        [60] * 5 + [None],
        [1] * 5 + [0],
        submitted_ns=[6 * MS, 31 * MS, 35 * MS, 50 * MS, 31 * MS, -1],
    )
    assert (send_lag_ns(requests) / MS).tolist() == [1, 19, 2, 5, 1]
    assert (avoidable_lag_ns(steps, requests) / MS).tolist() == [1, 1, 2, 0, 1]
    assert (avoidable_lag_ns(steps[:0], requests) == send_lag_ns(requests)).all()
