"""Preemptions, and where they came close together."""

from __future__ import annotations

from typing import Any

import numpy as np

from innerloop.harness.analysis.columns import NS, known

CLOSE_STEPS = 20  # preemptions within this many steps of each other belong together
STORM = 3  # preemptions that belong together make a storm
MOST = 10  # storms listed, the largest


def preemptions(steps: np.ndarray, start_ns: int) -> dict[str, Any] | None:
    """How many there were, in how many steps, and the storms; None where the engine does not report them.

    A storm's `share_of_prefill` is the part of all prefill positions that were computed from its first to its last
    step: what is thrown out has to be computed again, in it or soon after.
    """
    thrown = steps["preempted"]
    if len(thrown) == 0 or not known(thrown).all():
        return None
    hit = np.flatnonzero(thrown > 0)
    storms: list[dict[str, Any]] = []
    prefill = steps["prefill_tokens"]
    whole = float(prefill.sum()) if known(prefill).all() else 0.0
    for group in np.split(hit, np.flatnonzero(np.diff(hit) > CLOSE_STEPS) + 1) if len(hit) else ():
        first, last = int(group[0]), int(group[-1])
        count = int(thrown[first : last + 1].sum())
        if count < STORM:
            continue
        rows = steps[first : last + 1]
        usage = rows["kv_usage"][0]
        storms.append(
            {
                "first_step": first,
                "last_step": last,
                "at_s": float(rows["start_ns"][0] - start_ns) * NS,
                "duration_s": float(rows["end_ns"][-1] - rows["start_ns"][0]) * NS,
                "preempted": count,
                "kv_usage": None if np.isnan(usage) else float(usage),
                "share_of_prefill": float(rows["prefill_tokens"].sum()) / whole if whole > 0 else None,
            }
        )
    storms.sort(key=lambda storm: -storm["preempted"])
    return {"count": int(thrown.sum()), "steps": len(hit), "storms": storms[:MOST], "storm_count": len(storms)}
