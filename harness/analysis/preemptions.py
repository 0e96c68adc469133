"""Preemptions, and where they came close together."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.schema.investigation import Preemptions, Storm

CLOSE_STEPS = 20  # preemptions within this many steps of each other belong together
STORM = 3  # preemptions that belong together make a storm
MOST = 10  # storms listed, the largest


def preemptions(steps: np.ndarray, start_ns: int) -> Preemptions | None:
    """How many there were, in how many steps, and the storms; None where the engine does not report them.

    A storm's `share_of_prefill` is the part of all prefill positions that were computed from its first to its last
    step: what is preempted has to be computed again, in it or soon after.
    """
    preempted = steps["preempted"]
    if len(preempted) == 0 or not known(preempted).all():
        return None
    hit = np.flatnonzero(preempted > 0)
    groups = np.split(hit, np.flatnonzero(np.diff(hit) > CLOSE_STEPS) + 1) if len(hit) else []
    storms = [_storm(steps, int(group[0]), int(group[-1]), start_ns) for group in groups]
    storms = sorted((one for one in storms if one.preempted >= STORM), key=lambda one: -one.preempted)
    return Preemptions(count=int(preempted.sum()), steps=len(hit), storms=tuple(storms[:MOST]), storm_count=len(storms))


def _storm(steps: np.ndarray, first: int, last: int, start_ns: int) -> Storm:
    rows, prefill = steps[first : last + 1], steps["prefill_tokens"]
    whole = float(prefill.sum()) if known(prefill).all() else 0.0
    usage = rows["kv_usage"][0]
    return Storm(
        first_step=first,
        last_step=last,
        at_s=float(rows["start_ns"][0] - start_ns) * NS,
        duration_s=float(rows["end_ns"][-1] - rows["start_ns"][0]) * NS,
        preempted=int(rows["preempted"].sum()),
        kv_usage=None if np.isnan(usage) else float(usage),
        share_of_prefill=float(rows["prefill_tokens"].sum()) / whole if whole > 0 else None,
    )
