"""The slowest steps of a run, and what was in them."""

from __future__ import annotations

import numpy as np

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.context import Work
from innerloop.harness.analysis.steps import gaps_ns, wall_ns
from innerloop.harness.schema.investigation import SlowStep


def slowest(
    steps: np.ndarray,
    requests: np.ndarray,
    done: Work,
    expected_s: np.ndarray,
    bound_s: np.ndarray | None,
    *,
    window: tuple[int, int],
    count: int,
) -> tuple[SlowStep, ...]:
    """The `count` slowest steps, the slowest first.

    expected_s: what a step of this composition takes by the fit, float64 [steps]. bound_s: the least that it can take,
    float64 [steps]; None where it is not known. window: its start and end in monotonic ns.
    """
    start_ns, end_ns = window
    wall = wall_ns(steps)
    _, _, bubble = gaps_ns(steps, requests, start_ns, end_ns)

    def of(row: int) -> SlowStep:
        step = steps[row]
        return SlowStep(
            step=row,
            at_s=float(step["start_ns"] - start_ns) * NS,
            wall_s=float(wall[row]) * NS,
            expected_s=_or_none(expected_s[row]),
            bound_s=None if bound_s is None else _or_none(bound_s[row]),
            prefill_positions=_count(step["prefill_tokens"]),
            decode_positions=_count(step["decode_tokens"]),
            output_tokens=_count(step["output_tokens"]),
            running=_count(step["running"]),
            waiting=_count(step["waiting"]),
            preempted=_count(step["preempted"]),
            context_tokens=_or_none(done.kv_read[row]),
            kv_usage=_or_none(step["kv_usage"]),
            phases_s={
                phase: float(step[f"{phase}_ns"]) * NS if known(step[f"{phase}_ns"]) else None for phase in PHASES
            },
            bubble_before_s=float(bubble[row]) * NS,
            bubble_after_s=float(bubble[row + 1]) * NS,
        )

    return tuple(of(row) for row in np.argsort(-wall, kind="stable")[:count].tolist())


def _count(value: int) -> int | None:
    return int(value) if value >= 0 else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
