"""Doubts about the load: what had not ended, too few requests, overload and changes of speed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from innerloop.harness.analysis.run import Figures, analyse
from innerloop.harness.result.suspect_load import late_users, suspicions
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.stability import Backlog, Drift, Stability
from innerloop.harness.store.tables import Tables
from tests.harness.conftest import SECOND

MANY = Summary(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 1000)


@pytest.fixture
def figures(offline_tables: Tables) -> Figures:
    """Of a run against which nothing stands; its window opened at 1 s."""
    t = offline_tables
    found = analyse(t.steps, t.tokens, t.requests, t.header)
    return replace(found, latency_s=replace(found.latency_s, ttft=MANY, e2e=MANY), stability=Stability())


def reason(figures: Figures) -> Reason:
    [found] = suspicions(figures)
    return found


def test_nothing_stands_against_a_sound_run(figures: Figures) -> None:
    assert suspicions(figures) == []


@pytest.mark.parametrize(("unfinished", "codes"), [(10, []), (11, ["censored"])])
def test_more_than_one_percent_without_a_first_token_censor_a_run(
    figures: Figures, unfinished: int, codes: list[str]
) -> None:
    ttft = replace(MANY, count=1000 - unfinished, unfinished=unfinished)
    seen = replace(figures, latency_s=replace(figures.latency_s, ttft=ttft))
    assert [one.code for one in suspicions(seen)] == codes


def test_cut_requests_are_a_note(figures: Figures) -> None:
    e2e = replace(MANY, count=900, unfinished=100)
    found = reason(replace(figures, latency_s=replace(figures.latency_s, e2e=e2e)))
    assert (found.code, found.severity) == ("cut_requests", "note")
    assert "10.0 %" in found.detail


def test_fewer_than_a_hundred_requests_are_a_note(figures: Figures) -> None:
    found = reason(replace(figures, latency_s=replace(figures.latency_s, ttft=replace(MANY, count=99))))
    assert (found.code, found.severity) == ("few_requests", "note")


@pytest.mark.parametrize(("last_ms", "late"), [(15_000, False), (15_001, True)])
def test_users_that_come_in_the_second_half_are_a_note(make_requests, last_ms: int, late: bool) -> None:
    requests = make_requests([0, last_ms, None], [1, 20_000, None], [2, 25_000, None], [1, 1, 1], user=[0, 1, 0])
    load = {"kind": "closed", "users": 2, "arrive_over_s": 30.0}
    found = [*late_users(requests, 0, 30_000_000_000, load)]
    assert [(one.code, one.severity) for one in found] == ([("late_users", "note")] if late else [])
    if late:
        assert "only 15 s are left with all users" in found[0].detail
        assert "load.duration_s=60 or more, or --workload-arg load.arrive_over_s=15 or less" in found[0].detail
    assert [*late_users(requests, 0, -1, load)] == []
    assert [*late_users(requests, 0, 30_000_000_000, {"users_over_time": []})] == []


def test_a_growing_queue_is_overload(figures: Figures) -> None:
    found = reason(replace(figures, stability=Stability(backlog=Backlog(True, 300.0, 250.0, 350.0, 80.0))))
    assert (found.code, found.severity) == ("overloaded", "suspect")
    assert "grew by 300 per minute" in found.detail
    assert suspicions(replace(figures, stability=Stability(backlog=Backlog(False, 1.0, -1.0, 3.0, 80.0)))) == []


def test_a_change_of_speed_is_named(figures: Figures) -> None:
    steady = Drift("drift", 0.02, 0.015, 0.025, 0.11, 1e-6)
    found = reason(replace(figures, stability=Stability(drift=steady)))
    assert found.code == "drift"
    assert "11.0 % longer by the end (2.0 % longer per minute)" in found.detail
    sudden = replace(steady, kind="level_shift", change=-0.2, shift_ns=31 * SECOND)
    found = reason(replace(figures, stability=Stability(drift=sudden)))
    assert found.code == "level_shift"
    assert "20.0 % less time, 30 s into the window" in found.detail
    assert suspicions(replace(figures, stability=Stability(drift=replace(steady, kind=None)))) == []


@pytest.mark.parametrize("third_ms", [None, 30_000])
def test_users_that_never_came_make_a_run_suspect(make_requests, third_ms: int | None) -> None:
    requests = make_requests(
        [0, 20_000, third_ms], [1, 20_001, None], [2, 25_000, None], [1, 1, 1], user=[0, 1, 2]
    )  # user 2 was to come when the window of 30 s had closed
    [found] = late_users(requests, 0, 30_000_000_000, {"kind": "closed", "users": 3, "arrive_over_s": 0.0})
    assert (found.code, found.severity) == ("missing_users", "suspect")
    assert found.detail == "only 2 of 3 users came before the window closed"
