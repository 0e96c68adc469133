"""A whole run's figures from its trace."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from innerloop.harness.analysis.run import analyse, overhead
from innerloop.harness.analysis.steps import edges
from innerloop.harness.schema.steps import Overhead
from innerloop.harness.schema.window import Counts, Throughput, Window
from innerloop.harness.store.tables import Tables
from tests.harness.conftest import MS, SECOND


def test_the_offline_runs_figures(offline_tables: Tables) -> None:
    # 8 requests of 16 + 50 tokens; 50 steps of 39 ms, 40 ms apart: the window is 49 x 40 + 39 = 1999 ms
    t = offline_tables
    found = analyse(t.steps, t.tokens, t.requests, t.header)
    assert found.window.duration_s == pytest.approx(1.999)
    assert found.counts == Counts(
        requests=8,
        finished=8,
        cut=0,
        unsent=0,
        without_first_token=0,
        prompt_tokens=128,
        output_tokens=400,
        prefill_positions=128,
        decode_positions=392,
        steps=50,
        preemptions=0,
    )
    assert found.throughput.output_tokens_per_s == pytest.approx(400 / 1.999)
    assert found.throughput.tokens_per_s_per_user == pytest.approx(25)
    assert found.latency_s.itl.p99 == pytest.approx(0.040)
    assert found.latency_s.itl.count == 8 * 49
    assert found.step_s.bubble.mean == pytest.approx(0.001)
    assert found.steady.reason == "the run needs more than twice as many requests as the largest batch"
    assert found.stability.backlog is None
    assert asdict(found.overhead) == {
        "recorder_ns_per_step": pytest.approx(20_000),
        "recorder_ns_per_token": pytest.approx(2_500),
        "recorder_share_of_step_time": pytest.approx(20_000 / (39 * MS)),
        "clock_ns_per_call": None,
        "observer_ns_per_step": None,
        "step_ratio": None,
        "step_ratio_low": None,
        "step_ratio_high": None,
        "step_ratio_pairs": None,
        "gc_pauses": None,
        "gc_s": None,
        "gc_longest_s": None,
        "trace_growths": None,
        "interruptions": None,
    }
    assert found.checks == ()


def test_a_window_that_was_never_closed_ends_with_its_last_step(offline_tables: Tables) -> None:
    header = {**offline_tables.header, "end_ns": 0}
    assert edges(offline_tables.steps, header) == (SECOND, SECOND + 1999 * MS)


def test_a_window_that_never_opened_has_no_figures(offline_tables: Tables) -> None:
    t = replace(offline_tables, header=dict.fromkeys(offline_tables.header, 0))
    found = analyse(t.steps[:0], t.tokens[:0], t.requests[:0], t.header)
    assert found.window == Window(None, None, None)
    assert found.throughput == Throughput()
    assert found.counts.preemptions is None
    assert found.over_time is None
    assert found.overhead == Overhead(None, None, None)
    assert found.checks == ()


def test_requests_that_waited_in_vain_are_counted(offline_tables: Tables) -> None:
    requests = offline_tables.requests.copy()
    requests["first_token_ns"][:2] = requests["last_token_ns"][:2] = -1
    requests["state"][:2], requests["state"][2] = 3, 0
    found = analyse(offline_tables.steps, offline_tables.tokens, requests, offline_tables.header).counts
    assert (found.cut, found.unsent, found.without_first_token) == (2, 1, 2)
    assert found.prompt_tokens == 6 * 16


def test_what_looking_and_garbage_cost_is_in_the_overhead(offline_tables: Tables) -> None:
    n = len(offline_tables.steps)
    said = {
        "counts_overhead": 1,
        "observer_ns": 300 * n,
        "gc_pauses": 3,
        "gc_ns": 5 * MS,
        "gc_longest_ns": 4 * MS,
        "growths": 1,
    }
    found = overhead(offline_tables.steps, {**offline_tables.header, **said})
    assert found.observer_ns_per_step == pytest.approx(300)
    assert (found.gc_pauses, found.trace_growths) == (3, 1)
    assert found.gc_s == pytest.approx(0.005)
    assert found.gc_longest_s == pytest.approx(0.004)


def test_an_older_trace_does_not_say_it(offline_tables: Tables) -> None:
    found = overhead(offline_tables.steps, offline_tables.header)
    assert (found.observer_ns_per_step, found.gc_pauses, found.gc_s, found.trace_growths) == (None, None, None, None)
