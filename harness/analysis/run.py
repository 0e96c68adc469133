"""A whole run's figures from its trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from innerloop.engines.worker.trace import STATES
from innerloop.harness.analysis.checks import checks
from innerloop.harness.analysis.columns import NS, total
from innerloop.harness.analysis.latency import finished, first_tokens, gaps_of, latency_s
from innerloop.harness.analysis.series import over_time
from innerloop.harness.analysis.stability import stability
from innerloop.harness.analysis.steady import steady
from innerloop.harness.analysis.steps import edges, level, step_s, step_share, time_share, wall_ns
from innerloop.harness.analysis.throughput import throughput
from innerloop.harness.analysis.windows import steady_span
from innerloop.harness.schema.common import Level
from innerloop.harness.schema.reasons import Check
from innerloop.harness.schema.stability import Stability
from innerloop.harness.schema.steps import Overhead, StepSeconds, StepShare, TimeShare
from innerloop.harness.schema.window import Counts, Latency, OverTime, Steady, Throughput, Window


@dataclass(frozen=True, slots=True)
class Figures:
    """The sections of a result that come from the trace."""

    window: Window
    counts: Counts
    throughput: Throughput
    latency_s: Latency
    step_s: StepSeconds
    step_share: StepShare
    time_share: TimeShare
    batch: Level
    waiting: Level
    kv_usage: Level
    steady: Steady
    stability: Stability
    over_time: OverTime | None
    overhead: Overhead
    checks: tuple[Check, ...]


COUNTED = ("observer_ns", "growths", "gc_pauses", "gc_ns", "gc_longest_ns")  # what older traces lack


def analyse(
    steps: np.ndarray,
    tokens: np.ndarray,
    requests: np.ndarray,
    header: Mapping[str, int],
    *,
    prefix_caching: bool = False,
    max_batch_size: int | None = None,
    observed: bool = False,
) -> Figures:
    """All figures of a window that never opened are None.

    `steps`, `tokens` and `requests` are of dtype STEP, TOKEN and REQUEST, `header` the steps file's fields by name.
    `max_batch_size` is the engine's limit, None if it is not known.
    `observed`: the engine runs its own loop, whose steps were only watched.
    """
    start_ns, end_ns = edges(steps, header)
    first, gaps = first_tokens(requests, tokens), gaps_of(tokens)
    span = steady_span(steps, requests, start_ns, end_ns, max_batch_size)
    return Figures(
        window=Window(
            start_ns=start_ns or None,
            end_ns=end_ns or None,
            duration_s=(end_ns - start_ns) * NS if end_ns > start_ns else None,
        ),
        counts=counts(steps, requests),
        throughput=throughput(steps, requests, first, gaps, start_ns, end_ns),
        latency_s=latency_s(steps, requests, first, gaps, end_ns),
        step_s=step_s(steps, requests, observed),
        step_share=step_share(steps),
        time_share=time_share(steps, requests, start_ns, end_ns, observed),
        batch=level(steps, "running"),
        waiting=level(steps, "waiting"),
        kv_usage=level(steps, "kv_usage"),
        steady=steady(span, steps, requests, first, gaps, end_ns),
        stability=stability(span, steps, tokens, requests, start_ns),
        over_time=over_time(steps, start_ns, end_ns),
        overhead=overhead(steps, header),
        checks=checks(steps, tokens, requests, complete=header["end_ns"] > 0, prefix_caching=prefix_caching),
    )


def counts(steps: np.ndarray, requests: np.ndarray) -> Counts:
    """What was asked and what was done."""
    state = requests["state"]
    started = requests["first_token_ns"] >= 0
    return Counts(
        requests=len(requests),
        finished=int(finished(requests).sum()),
        cut=int(((state == STATES.index("cut")) | (state == STATES.index("running"))).sum()),
        unsent=int((state == STATES.index("unsent")).sum()),
        without_first_token=int(((requests["submitted_ns"] >= 0) & ~started).sum()),
        prompt_tokens=int(requests["prompt_tokens"][started].sum(dtype=np.int64)),
        output_tokens=int(requests["output_tokens"].sum(dtype=np.int64)),
        prefill_positions=total(steps["prefill_tokens"]),
        decode_positions=total(steps["decode_tokens"]),
        steps=len(steps),
        preemptions=total(steps["preempted"]),
        drafted_tokens=total(steps["drafted_tokens"]),
        accepted_tokens=total(steps["accepted_tokens"]),
    )


def overhead(steps: np.ndarray, header: Mapping[str, int]) -> Overhead:
    """What recording cost by the recorder's own clock, and looking at the engine by the adapter's; Python's collections
    of garbage in the window; how often the trace had to grow in it."""
    spent, tokens = header["recorder_ns"], int(steps["output_tokens"].sum(dtype=np.int64))
    wall = int(wall_ns(steps).sum())
    counted = header["start_ns"] > 0 and header.get("counts_overhead") == 1
    told = {name: header[name] if counted else None for name in COUNTED}
    observer, collecting, longest = told["observer_ns"], told["gc_ns"], told["gc_longest_ns"]
    return Overhead(
        recorder_ns_per_step=spent / len(steps) if len(steps) else None,
        recorder_ns_per_token=spent / tokens if tokens else None,
        recorder_share_of_step_time=spent / wall if wall > 0 else None,
        observer_ns_per_step=observer / len(steps) if len(steps) and observer is not None else None,
        gc_pauses=told["gc_pauses"],
        gc_s=None if collecting is None else collecting * NS,
        gc_longest_s=None if longest is None else longest * NS,
        trace_growths=told["growths"],
    )
