"""Figures over the steady window; `windows` has the rules for where it lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from innerloop.harness.analysis.arrivals import Gaps
from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.latency import latency_s
from innerloop.harness.analysis.rates import output_rate, rate_per_user
from innerloop.harness.analysis.statistics import Interval
from innerloop.harness.analysis.steps import level, wall_ns
from innerloop.harness.analysis.summary import summary
from innerloop.harness.analysis.throughput import throughput
from innerloop.harness.analysis.windows import LEAST_S, LEAST_STEPS, Span
from innerloop.harness.schema.common import Bounds
from innerloop.harness.schema.window import Steady

REASONS = {
    "no_steps": "no steps were recorded",
    "no_requests": "no requests arrived",
    "batch_unknown": "the largest batch is unknown",
    "too_few_requests": "the run needs more than twice as many requests as the largest batch",
    "no_residence": "no requests finished",
    "never_settled": "the number of requests in the system never settled",
    "too_short": f"the steady window would be shorter than {LEAST_S:g} s or {LEAST_STEPS} steps",
}


def steady(span: Span, steps: np.ndarray, requests: np.ndarray, first: np.ndarray, gaps: Gaps, end_ns: int) -> Steady:
    """Figures of the span (see `windows.steady_span`), or all None with the `reason`.

    `steps`, `requests` are of dtype STEP and REQUEST; `first`, `gaps` are `latency.first_tokens` and `latency.gaps_of`.
    What had not ended was last seen at `end_ns`.
    """
    if span.start_ns is None or span.end_ns is None:
        return Steady(REASONS[span.missing or "too_short"], span.rule)
    rows = steps[inside(steps["end_ns"], span)]
    due = inside(requests["due_ns"], span)
    arrived = gaps.within(span.start_ns, span.end_ns)
    per_user = rate_per_user(arrived.arrived_ns, arrived.gap_ns, arrived.count)
    speed = throughput(rows, requests, first, gaps, span.start_ns + 1, span.end_ns)
    return Steady(
        reason=None,
        rule=span.rule,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        duration_s=(span.end_ns - span.start_ns) * NS,
        steps=len(rows),
        throughput=replace(
            speed,
            output_tokens_per_s_ci=_bounds(output_rate(steps, span.start_ns, span.end_ns)),
            tokens_per_s_per_user_ci=_bounds(per_user),
        ),
        latency_s=latency_s(steps, requests[due], first[due], arrived, end_ns),
        wall_s=summary(wall_ns(rows), NS),
        batch=level(rows, "running"),
        kv_usage=level(rows, "kv_usage"),
    )


def inside(moments_ns: np.ndarray, span: Span) -> np.ndarray:
    """Which moments lie in (start, end] of a span that there is: bool, the shape of `moments_ns`."""
    assert span.start_ns is not None
    assert span.end_ns is not None
    return (moments_ns > span.start_ns) & (moments_ns <= span.end_ns)


def _bounds(found: Interval) -> Bounds | None:
    return None if found.low is None and found.high is None else (found.low, found.high)
