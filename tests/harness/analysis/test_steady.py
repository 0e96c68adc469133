"""Figures over the steady part of a run."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.latency import first_tokens, gaps_of
from innerloop.harness.analysis.steady import steady
from innerloop.harness.analysis.windows import Span
from innerloop.harness.schema.common import Level
from tests.harness.conftest import MS, Make


def test_figures_leave_out_what_is_outside(make_steps: Make, make_requests: Make, make_tokens: Make) -> None:
    # 40 steps of 100 ms with two requests from 0.5 s on; the window is (1 s, 3 s], and request 2 falls due in it
    start = np.arange(40) * 100
    steps = make_steps(start, start + 100, running=[1] * 5 + [2] * 35, output_tokens=[1] * 5 + [2] * 35)
    requests = make_requests([0, 400, 2050], [100, 600, 2200], [2100, 4000, 4000], [21, 35, 19])
    arrived = [(t, 0) for t in range(100, 2101, 100)] + [(t, 1) for t in range(600, 4001, 100)]
    arrived += [(t, 2) for t in range(2200, 4001, 100)]
    tokens = make_tokens(*map(list, zip(*sorted(arrived), strict=True)))
    span = Span("after_last_user", 1000 * MS, 3000 * MS)
    found = steady(span, steps, requests, first_tokens(requests, tokens), gaps_of(tokens), 4000 * MS)
    assert (found.reason, found.rule, found.steps, found.duration_s) == (None, "after_last_user", 20, 2.0)
    assert found.throughput is not None
    assert found.throughput.output_tokens_per_s == pytest.approx(20)
    assert list(found.throughput.output_tokens_per_s_ci or ()) == pytest.approx([20, 20])
    assert found.throughput.tokens_per_s_per_user == pytest.approx(10)
    assert found.throughput.user_tokens == 11 + 20 + 8  # gaps that end in it; the first token of request 2 has none
    assert found.throughput.requests_per_s == pytest.approx(0.5)
    assert found.latency_s is not None
    assert found.latency_s.ttft.count == 1
    assert found.latency_s.ttft.p50 == pytest.approx(0.15)
    assert found.latency_s.itl.count == 39
    assert found.batch == Level(2.0, 2)


def test_without_a_window_there_is_a_reason(make_steps: Make, make_requests: Make, make_tokens: Make) -> None:
    span = Span("full_batch", missing="too_few_requests")
    tokens, requests = make_tokens([10, 20], [0, 0]), make_requests([0], [10], [20], [2])
    found = steady(span, make_steps([0], [20]), requests, np.ones(1, dtype=int), gaps_of(tokens), 20 * MS)
    assert (found.reason, found.rule) == (
        "the run needs more than twice as many requests as the largest batch",
        "full_batch",
    )
    assert found.throughput is None
