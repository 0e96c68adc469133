"""Which requests kept latency limits, and whether a limit at a quantile holds."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.goodput import clustering, goodput, holds, judge, share_kept
from innerloop.harness.schema.goodput import Limit
from tests.harness.conftest import MS, Make

START, END = 1, 1000 * MS


def test_a_time_to_first_token_counts_from_due_and_a_request_without_one_breaks_it_once_it_is_late(
    make_requests: Make,
) -> None:
    # 50 ms, 51 ms; none after 100 ms; none after 40 ms, which may still keep it; never due
    rows = make_requests(
        [0, 0, 900, 960, None], [50, 51, None, None, None], [90, 90, None, None, None], [3, 3, 0, 0, 0],
        ["finished", "finished", "cut", "cut", "unsent"],
    )[:4]  # fmt: skip
    assert judge(rows, np.ones(4, int), Limit("ttft", 0.99, 0.05), END).tolist() == [1, 0, 0, -1]


def test_a_time_per_token_is_that_after_the_first_arrival(make_requests: Make) -> None:
    # 100 ms / 4 tokens = 25 ms; one token has none; cut after 500 ms of 5 tokens: at least 500 / 4 ms
    rows = make_requests([0, 0, 0], [10, 10, 500], [110, 10, 600], [5, 1, 2], ["finished", "finished", "cut"])
    rows["asked_tokens"] = [5, 1, 5]
    assert judge(rows, np.ones(3, int), Limit("tpot", 0.95, 0.025), END).tolist() == [1, -1, 0]
    # 500 ms for each of 4 tokens are longer than the window: nothing could have exceeded them
    assert judge(rows, np.ones(3, int), Limit("tpot", 0.95, 0.5), END).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("figure", ["ttft", "e2e", "tpot"])
def test_the_end_of_the_window_lets_no_more_requests_pass_than_there_are(make_requests: Make, figure: str) -> None:
    """One is due every 10 ms, and takes 200, 400, 600 or 800 ms in turn: half of them keep 500 ms. Of those of the last
    500 ms the quick ones have ended, and all that have are quick."""
    due = np.arange(100) * 10.0
    took = np.tile([200.0, 400.0, 600.0, 800.0], 25)
    end = due + took
    cut = end > 1000
    first = np.where(cut, np.nan, end) if figure == "ttft" else due
    rows = make_requests(
        due.tolist(),
        [None if np.isnan(one) else one for one in first],
        [None if late else one for late, one in zip(cut, end, strict=True)],
        np.where(cut, 0 if figure == "ttft" else 1, 11).tolist(),
        ["cut" if late else "finished" for late in cut],
        asked_tokens=[11] * 100,
    )
    limit = Limit(figure, 0.9, 0.05 if figure == "tpot" else 0.5)  # type: ignore[arg-type]
    [kept] = goodput(rows, np.ones(100, int), [limit], START, END).limits
    assert (kept.judged, kept.kept) == (50, 26)  # of 50 due before 500 ms, 13 of each quick kind


def test_where_all_requests_ended_all_are_judged(make_requests: Make) -> None:
    rows = make_requests([0, 900], [10, 910], [100, 1000], [5, 5])
    [kept] = goodput(rows, np.ones(2, int), [Limit("e2e", 0.9, 0.5)], START, END).limits
    assert (kept.judged, kept.kept) == (2, 2)


@pytest.mark.parametrize("limit_s", [0.02, 0.3, 0.5, 2.0])  # 0.5 / 1e-9 is 499999999.99999994
def test_just_the_limit_keeps_it(make_requests: Make, limit_s: float) -> None:
    rows = make_requests([0], [limit_s * 1e3], [limit_s * 1e3], [1])
    assert judge(rows, np.ones(1, int), Limit("ttft", 0.9, limit_s), 3 * END).tolist() == [1]


def test_goodput_counts_what_was_cut_as_no_good_request(make_requests: Make) -> None:
    rows = make_requests(
        [0, 0, 0, 0], [10, 10, 400, 990], [100, 700, 500, None], [10, 10, 10, 1], ["finished"] * 3 + ["cut"]
    )
    found = goodput(rows, np.ones(4, int), [Limit("ttft", 0.9, 0.1), Limit("e2e", 0.9, 0.6)], START, START + 2 * END)
    assert (found.due, found.good, found.share) == (4, 1, 0.25)
    assert found.requests_per_s == pytest.approx(0.5)
    ttft, e2e = found.limits
    assert (ttft.judged, ttft.kept, ttft.share) == (4, 2, 0.5)
    assert (e2e.judged, e2e.kept) == (4, 2)


def test_a_limit_holds_by_its_interval_at_its_own_quantile() -> None:
    # Wilson with 400 of 400: 400 / (400 + 3.8415) = 0.9905
    assert share_kept(400, 400, 1.0).low == pytest.approx(400 / 403.8415, rel=1e-4)
    assert holds(share_kept(400, 400, 1.0), 0.99) is True
    assert holds(share_kept(200, 200, 1.0), 0.99) is None
    assert holds(share_kept(380, 400, 1.0), 0.99) is False
    assert holds(share_kept(380, 400, 1.0), 0.9) is True
    assert holds(share_kept(0, 0, 1.0), 0.9) is None


def test_violations_that_come_together_tell_less() -> None:
    scattered = np.tile([1.0, 1, 1, 0], 50)
    together = np.concatenate((np.ones(150), np.zeros(50)))
    assert clustering(scattered) == 1.0
    assert clustering(together) > 20
    assert clustering(np.ones(200)) == 1.0
    assert clustering(np.zeros(3)) == 1.0
    assert holds(share_kept(150, 200, clustering(together)), 0.95) is None
    assert holds(share_kept(150, 200, clustering(scattered)), 0.95) is False


def test_a_window_without_requests_has_no_share(make_requests: Make) -> None:
    found = goodput(make_requests([None], [None], [None], [0], ["unsent"]), np.ones(1, int), [], START, END)
    assert (found.due, found.share, found.requests_per_s) == (0, None, 0.0)
