"""The slowest steps of a run, and what was in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.context import Work
from innerloop.harness.analysis.steps import gaps_ns, wall_ns

COUNTS = ("prefill_tokens", "decode_tokens", "output_tokens", "running", "waiting", "preempted")


def slowest(
    steps: np.ndarray,
    requests: np.ndarray,
    done: Work,
    expected_s: np.ndarray,
    *,
    start_ns: int,
    end_ns: int,
    count: int,
) -> list[dict[str, Any]]:
    """The `count` slowest steps, the slowest first. Times in seconds; None is not reported.

    at_s: the step's start after the window's. expected_s: what a step of this make-up takes by the fit.
    bubble_before_s, bubble_after_s: time to the steps beside it in which there was work.
    """
    wall = wall_ns(steps)
    _, _, bubble = gaps_ns(steps, requests, start_ns, end_ns)
    out = []
    for row in np.argsort(-wall, kind="stable")[:count].tolist():
        step = steps[row]
        out.append(
            {
                "step": row,
                "at_s": float(step["start_ns"] - start_ns) * NS,
                "wall_s": float(wall[row]) * NS,
                "expected_s": _or_none(expected_s[row]),
                **{name: int(step[name]) if step[name] >= 0 else None for name in COUNTS},
                "context_tokens": _or_none(done.kv_read[row]),
                "kv_usage": _or_none(step["kv_usage"]),
                "phases_s": {
                    phase: float(step[f"{phase}_ns"]) * NS if known(step[f"{phase}_ns"]) else None for phase in PHASES
                },
                "bubble_before_s": float(bubble[row]) * NS,
                "bubble_after_s": float(bubble[row + 1]) * NS,
            }
        )
    return out


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
