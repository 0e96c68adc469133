"""What a request's sender sees."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.latency import e2e_ns, first_tokens, gaps_of, latency_s, tpot_ns, ttft_ns
from tests.harness.conftest import MS, Make


def itl_ms(tokens: np.ndarray) -> list[float]:
    return (gaps_of(tokens).itl_ns / MS).tolist()


def test_ttft_counts_from_when_a_request_was_due_so_that_queueing_belongs_to_it(make_requests: Make) -> None:
    # due at 100, sent only at 180, first token at 200: 100 ms, not 20
    requests = make_requests([100], [200], [300], [2], submitted_ns=[180 * MS])
    assert ttft_ns(requests).tolist() == [100 * MS]


def test_ttft_has_cut_requests_but_not_those_without_a_token(make_requests: Make) -> None:
    requests = make_requests(
        [0, 0, 0, None], [10, 20, None, None], [50, 40, None, None], [3, 2, 0, 0], ["finished", "cut", "cut", "unsent"]
    )
    assert ttft_ns(requests).tolist() == [10 * MS, 20 * MS]


def test_end_to_end_is_only_that_of_finished_requests(make_requests: Make) -> None:
    requests = make_requests([5, 5], [10, 10], [105, 90], [3, 2], ["finished", "cut"])
    assert e2e_ns(requests).tolist() == [100 * MS]


def test_tpot_is_the_time_after_the_first_token_shared_by_the_tokens_after_it(make_requests: Make) -> None:
    # (110 - 10) / (5 - 1) = 25 ms; one token has no TPOT; neither has a cut request
    requests = make_requests([0, 0, 0], [10, 10, 10], [110, 10, 60], [5, 1, 3], ["finished", "finished", "cut"])
    assert tpot_ns(requests, np.ones(3, dtype=int)).tolist() == [25 * MS]


def test_tokens_that_came_with_the_first_took_no_time_after_it(make_requests: Make, make_tokens: Make) -> None:
    # arrivals of 5, 1, 1, 1 tokens 100 ms apart: 300 ms for 3 tokens, not for 7; all at once have no TPOT
    requests = make_requests([0, 0], [10, 10], [310, 10], [8, 4])
    tokens = make_tokens([10, 10, 110, 210, 310], [0, 1, 0, 0, 0], [5, 4, 1, 1, 1])
    assert tpot_ns(requests, first_tokens(requests, tokens)).tolist() == [100 * MS]


def test_what_had_not_ended_counts_in_the_quantiles(make_steps: Make, make_requests: Make, make_tokens: Make) -> None:
    # four due at 0: first tokens at 100 and 200 ms, two had none when the window closed at 1 s
    requests = make_requests([0] * 4, [100, 200, None, None], [None] * 4, [1, 1, 0, 0], ["cut"] * 4)
    tokens = make_tokens([100, 200], [0, 1])
    ttft = latency_s(make_steps([], []), requests, first_tokens(requests, tokens), gaps_of(tokens), 1000 * MS).ttft
    assert (ttft.count, ttft.unfinished, ttft.p50, ttft.p90) == (2, 2, 0.2, None)
    assert ttft.p99_ci is None or ttft.p99_ci[1] is None


def test_itl_is_the_gap_between_arrivals_of_one_request(make_tokens: Make) -> None:
    # request 0 at 10, 20, 50 -> 10, 30; request 1 at 10, 30 -> 20; request 2 once -> none
    tokens = make_tokens([10, 10, 20, 30, 40, 50], [0, 1, 0, 1, 2, 0])
    assert itl_ms(tokens) == [10, 20, 30]


def test_tokens_that_arrive_together_share_their_gap(make_tokens: Make) -> None:
    # 3 tokens 30 ms after the first: three gaps of 10; the 2 of the first arrival have none
    tokens = make_tokens([10, 40, 45], [0, 0, 0], [2, 3, 1])
    assert itl_ms(tokens) == [10, 10, 10, 5]


def test_an_arrival_without_tokens_is_none(make_tokens: Make) -> None:
    assert itl_ms(make_tokens([10, 20, 40], [0, 0, 0], [1, 0, 1])) == [30]


@pytest.mark.parametrize("times", [[], [10]])
def test_fewer_than_two_arrivals_have_no_gap(make_tokens: Make, times: list[float]) -> None:
    tokens = make_tokens(times, [0] * len(times), [1] * len(times))
    assert itl_ms(tokens) == []


@pytest.mark.parametrize("seed", range(20))
def test_itl_of_any_trace_is_what_a_plain_loop_finds(make_tokens: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    tokens = make_tokens(
        np.sort(rng.integers(0, 1000, n)).tolist(),
        rng.integers(0, 20, n).tolist(),
        rng.integers(0, 4, n).tolist() if seed % 2 else None,
    )
    last: dict[int, int] = {}
    expected = []
    for row in tokens:
        if row["count"]:
            if row["request"] in last:
                expected += [(row["time_ns"] - last[row["request"]]) // row["count"]] * row["count"]
            last[row["request"]] = row["time_ns"]
    assert sorted(gaps_of(tokens).itl_ns.tolist()) == sorted(expected)


def test_the_largest_request_number_is_grouped_right(make_tokens: Make) -> None:
    big = 2**31 - 1
    assert itl_ms(make_tokens([1, 2, 4, 8], [big, 0, big, 0])) == [3, 6]


def test_latencies_are_in_seconds(make_steps: Make, make_requests: Make, make_tokens: Make) -> None:
    requests, tokens = make_requests([0], [250], [1250], [3]), make_tokens([250, 500, 1250], [0, 0, 0])
    found = latency_s(make_steps([0], [250]), requests, np.ones(1, dtype=int), gaps_of(tokens), 1250 * MS)
    assert [one.mean for one in (found.ttft, found.tpot, found.itl, found.e2e)] == pytest.approx([0.25, 0.5, 0.5, 1.25])
    assert found.itl.max == pytest.approx(0.75)
    assert found.arrival_gap == found.itl
    assert found.send_lag is not None
    assert found.send_lag.max == 0
