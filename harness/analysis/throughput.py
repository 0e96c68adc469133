"""Work done per second of a window."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.arrivals import Gaps
from innerloop.harness.analysis.chunks import added
from innerloop.harness.analysis.columns import NS, total
from innerloop.harness.analysis.latency import finished, tpot_ns
from innerloop.harness.schema.window import Throughput


def throughput(
    steps: np.ndarray, requests: np.ndarray, first: np.ndarray, gaps: Gaps, start_ns: int, end_ns: int
) -> Throughput:
    """Rates over [start_ns, end_ns]. A step, an arrival, a first token or a finish counts when it ends inside.

    `steps` is of dtype STEP, `requests` of dtype REQUEST, `first` and `gaps` are `latency.first_tokens` and
    `latency.gaps_of`. See docs/method/speed.md for the definitions. All None when the window is empty or holds no step.
    """
    steps = within(steps, steps["end_ns"], start_ns, end_ns)
    seconds = (end_ns - start_ns) * NS
    if seconds <= 0 or len(steps) == 0:
        return Throughput()
    prefill = total(steps["prefill_tokens"])
    output = int(steps["output_tokens"].sum(dtype=np.int64))
    started = within(requests, requests["first_token_ns"], start_ns, end_ns)
    last = requests["last_token_ns"]
    done = finished(requests) & (last >= start_ns) & (last <= end_ns)
    prompts = int(started["prompt_tokens"].sum(dtype=np.int64))
    inside = gaps.within(start_ns - 1, end_ns)
    users, waited = added(inside.count), added(inside.gap_ns)
    return Throughput(
        prefill_positions_per_s=None if prefill is None else prefill / seconds,
        output_tokens_per_s=output / seconds,
        total_tokens_per_s=(prompts + output) / seconds,
        tokens_per_s_per_user=users / (waited * NS) if waited > 0 else None,
        requests_per_s=int(done.sum()) / seconds,
        tokens_per_s_per_request=per_request(tpot_ns(requests[done], first[done])),
        user_tokens=users,
    )


def per_request(tpot: np.ndarray) -> float | None:
    """Mean over requests of 1 / TPOT (`tpot` in ns, [requests]), in tokens/s."""
    tpot = tpot[tpot > 0]
    return float(np.mean(1 / (tpot * NS))) if len(tpot) else None


def within(table: np.ndarray, times_ns: np.ndarray, start_ns: int, end_ns: int) -> np.ndarray:
    """The rows of `table` whose time lies in [start_ns, end_ns] (-1, never, does not)."""
    inside = (times_ns >= max(start_ns, 0)) & (times_ns <= end_ns)
    return table if inside.all() else table[inside]
