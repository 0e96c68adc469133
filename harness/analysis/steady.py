"""The steady window: the part of a run in which the batch was full.

The rule is ML.ENERGY's (see docs/metrics.md): ramp-up and drain are left out, for a loaded engine does neither.
"""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.steps import level, wall_ns
from innerloop.harness.analysis.summary import summary
from innerloop.harness.analysis.throughput import throughput
from innerloop.harness.schema.window import Steady

FULL = 0.95  # of the largest batch of the run
LEAST_S = 1.0
LEAST_STEPS = 10


def full_steps(running: np.ndarray) -> tuple[int, int] | None:
    """The first and the last step with at least 95 % of the largest batch; None when the batch is not reported."""
    if len(running) == 0 or running.max() <= 0:
        return None
    full = np.flatnonzero(running >= FULL * running.max())
    return int(full[0]), int(full[-1])


def steady(steps: np.ndarray, requests: np.ndarray) -> Steady:
    """Figures over the steady window, or all None with the `reason`.

    It opens at the start of the first full step and closes at the end of the last one.
    """
    span = full_steps(steps["running"])
    if span is None:
        return Steady("the engine does not report its batch" if len(steps) else "no step was recorded")
    rows = steps[span[0] : span[1] + 1]
    start_ns, end_ns = int(rows["start_ns"][0]), int(rows["end_ns"][-1])
    seconds = (end_ns - start_ns) * NS
    if seconds < LEAST_S or len(rows) < LEAST_STEPS:
        return Steady(
            f"the batch was full for {seconds:.2f} s and {len(rows)} steps; "
            f"{LEAST_S:g} s and {LEAST_STEPS} steps are needed"
        )
    return Steady(
        reason=None,
        start_ns=start_ns,
        end_ns=end_ns,
        duration_s=seconds,
        steps=len(rows),
        throughput=throughput(rows, requests, start_ns, end_ns),
        wall_s=summary(wall_ns(rows), NS),
        batch=level(rows, "running"),
        kv_usage=level(rows, "kv_usage"),
    )


def usual_batch(steps: np.ndarray) -> list[int | None]:
    """(usual, largest) batch of a run: the median over its steps' time, and what counts as full (docs/metrics.md)."""
    running = steps["running"]
    if len(steps) == 0 or (running < 0).any():
        return [None, None]
    order = np.argsort(running)
    time_up_to = np.cumsum(wall_ns(steps)[order])
    middle = int(np.searchsorted(time_up_to, time_up_to[-1] / 2))
    return [int(running[order[middle]]), int(np.ceil(FULL * running.max()))]
