"""How far the requests came that did not finish."""

from __future__ import annotations

from innerloop.harness.analysis.unfinished import filled
from tests.harness.conftest import MS, Make


def test_what_a_cut_request_received_is_taken_from_the_token_records(make_requests: Make, make_tokens: Make) -> None:
    requests = make_requests(
        [0, 0, 0, None],
        [10, 10, None, None],
        [30, None, None, None],
        [2, 0, 0, 0],
        ["finished", "cut", "cut", "unsent"],
    )
    tokens = make_tokens([10, 10, 20, 30], [0, 1, 1, 0], [1, 1, 3, 1])
    found = filled(requests, tokens)
    assert found["output_tokens"].tolist() == [2, 4, 0, 0]
    assert found["last_token_ns"].tolist() == [30 * MS, 20 * MS, -1, -1]
    assert requests["output_tokens"].tolist() == [2, 0, 0, 0]


def test_a_finished_request_keeps_what_the_worker_wrote(make_requests: Make, make_tokens: Make) -> None:
    requests = make_requests([0, 0], [10, 10], [30, None], [7, 0], ["finished", "running"])
    found = filled(requests, make_tokens([10, 40], [0, 0]))
    assert found["output_tokens"].tolist() == [7, 0]
    assert found["last_token_ns"].tolist() == [30 * MS, -1]


def test_filling_twice_changes_nothing(make_requests: Make, make_tokens: Make) -> None:
    tokens = make_tokens([10, 20], [1, 1])
    once = filled(make_requests([0, 0], [None, 10], [None, None], [0, 0], ["cut", "cut"]), tokens)
    assert filled(once, tokens).tolist() == once.tolist()


def test_token_records_of_no_request_are_left_to_the_checks(make_requests: Make, make_tokens: Make) -> None:
    requests = make_requests([0], [10], [None], [0], ["cut"])
    assert filled(requests, make_tokens([10, 20], [0, 5]))["output_tokens"].tolist() == [1]
    assert filled(requests, make_tokens([], []))["output_tokens"].tolist() == [0]
