"""Work done per second of a window."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.columns import NS, total
from innerloop.harness.analysis.latency import finished, tpot_ns
from innerloop.harness.schema.window import Throughput


def throughput(steps: np.ndarray, requests: np.ndarray, start_ns: int, end_ns: int) -> Throughput:
    """Rates over [start_ns, end_ns]. A step, a first token or a finish counts when it ends inside.

    `steps` is of dtype STEP, `requests` of dtype REQUEST. See docs/metrics.md for the five definitions. All None when
    the window is empty or holds no step.
    """
    steps = within(steps, steps["end_ns"], start_ns, end_ns)
    seconds = (end_ns - start_ns) * NS
    if seconds <= 0 or len(steps) == 0:
        return Throughput()
    prefill = total(steps["prefill_tokens"])
    output = int(steps["output_tokens"].sum(dtype=np.int64))
    started = within(requests, requests["first_token_ns"], start_ns, end_ns)
    done = within(requests[finished(requests)], requests["last_token_ns"][finished(requests)], start_ns, end_ns)
    prompts = int(started["prompt_tokens"].sum(dtype=np.int64))
    return Throughput(
        prefill_positions_per_s=None if prefill is None else prefill / seconds,
        output_tokens_per_s=output / seconds,
        total_tokens_per_s=(prompts + output) / seconds,
        tokens_per_s_per_user=per_user(done),
        requests_per_s=len(done) / seconds,
    )


def per_user(requests: np.ndarray) -> float | None:
    """Mean over finished requests of 1 / TPOT: how fast one user's text grows once it has begun, in tokens/s."""
    tpot = tpot_ns(requests)
    tpot = tpot[tpot > 0]  # all tokens in one arrival have no rate
    return float(np.mean(1 / (tpot * NS))) if len(tpot) else None


def within(table: np.ndarray, times_ns: np.ndarray, start_ns: int, end_ns: int) -> np.ndarray:
    """The rows of `table` whose time lies in [start_ns, end_ns] (-1, never, does not)."""
    inside = (times_ns >= max(start_ns, 0)) & (times_ns <= end_ns)
    return table if inside.all() else table[inside]
