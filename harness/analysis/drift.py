"""Whether a run went on as it began: steps that become slower for what they hold, and a queue that only grows."""

from __future__ import annotations

from typing import Literal

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.stationarity import LEAST, Trend, shift, trend
from innerloop.harness.schema.stability import Backlog, Drift

BINS = 60
LEAST_STEPS = 10  # in a bin, on average
ALARM = 0.01  # how often a run that stays where it is may be called otherwise
LEAST_CHANGE = 0.05  # of the step's time, over the window; less is not worth a word
MINUTE_S = 60.0


def drift(end_ns: np.ndarray, wall_s: np.ndarray, expected_s: np.ndarray) -> Drift | None:
    """`end_ns` int64, `wall_s` and `expected_s` float64, [steps] each, in order of time; None of too few steps.

    `expected_s` is what a step with this batch takes on average (`step_costs.expected_s`), so that a change of mix is
    no drift; steps without (NaN) are left out.
    """
    used = ~np.isnan(expected_s) & (expected_s > 0)
    end_ns, wall_s, expected_s = end_ns[used], wall_s[used], expected_s[used]
    bins = min(BINS, len(end_ns) // LEAST_STEPS)
    if bins < LEAST or end_ns[-1] <= end_ns[0]:
        return None
    edges = np.linspace(end_ns[0], end_ns[-1], bins + 1)
    place = np.clip(np.searchsorted(edges, end_ns, side="right") - 1, 0, bins - 1)
    taken, usual = np.bincount(place, wall_s, bins), np.bincount(place, expected_s, bins)
    full = usual > 0
    level = taken[full] / usual[full]
    level /= level.mean()
    found = trend(level)
    if found is None:
        return None
    minutes = float(end_ns[-1] - end_ns[0]) * NS / MINUTE_S
    gone = _drifted(found, len(level), minutes)
    jump = shift(level)
    if jump is None:
        return gone
    changed = jump.after / jump.before - 1
    if jump.p >= ALARM or abs(changed) < LEAST_CHANGE or (gone.kind and not _sudden(level, found.slope, jump.at)):
        return gone
    at_ns = int(edges[np.flatnonzero(full)[jump.at]])
    return Drift("level_shift", gone.per_minute, gone.low, gone.high, changed, jump.p, at_ns)


def _drifted(found: Trend, bins: int, minutes: float) -> Drift:
    change = found.slope * (bins - 1)
    scale = bins / minutes  # bins a minute
    kind: Literal["drift"] | None = "drift" if found.p < ALARM and abs(change) >= LEAST_CHANGE else None
    return Drift(kind, found.slope * scale, found.low * scale, found.high * scale, change, found.p)


def _sudden(level: np.ndarray, slope: float, at: int) -> bool:
    """Whether two levels describe the values better than a line does: by the distances that are left."""
    line = level - slope * np.arange(len(level))
    steps = np.concatenate((level[:at] - np.median(level[:at]), level[at:] - np.median(level[at:])))
    return float(np.abs(steps).sum()) < float(np.abs(line - np.median(line)).sum())


def in_system(due_ns: np.ndarray, left_ns: np.ndarray, edges_ns: np.ndarray) -> np.ndarray:
    """The mean number of requests that were due and had not left between one edge and the next, float64 [edges - 1].

    `due_ns`, `left_ns` int64 [requests] each, -1 for what never happened; `edges_ns` rising.
    """
    due = due_ns[due_ns >= 0].astype(np.float64)
    left = left_ns[left_ns >= 0].astype(np.float64)
    return (_area(due, edges_ns) - _area(left, edges_ns)) / np.diff(edges_ns)


def _area(moments: np.ndarray, edges_ns: np.ndarray) -> np.ndarray:
    """The integral, between edges, of how many moments have passed."""
    ordered = np.sort(moments)
    passed = np.searchsorted(ordered, edges_ns)
    sums = np.concatenate(([0.0], np.cumsum(ordered - edges_ns[0])))
    return np.diff(passed * (edges_ns - edges_ns[0]) - sums[passed])


def backlog(due_ns: np.ndarray, left_ns: np.ndarray, start_ns: int) -> Backlog | None:
    """Of an open loop, over the second half of [start_ns, last arrival]: the first one fills an empty engine anyway.

    `due_ns`, `left_ns` as for `in_system`. None with fewer than 20 arrivals in it, or without any time.
    """
    known = due_ns[due_ns >= 0]
    last_ns = int(known.max(initial=-1))
    middle_ns = (start_ns + last_ns) // 2
    arrivals = int((known > middle_ns).sum())
    if last_ns <= start_ns or arrivals < 2 * LEAST:
        return None
    edges = np.linspace(middle_ns, last_ns, min(BINS, arrivals // 2) + 1)
    level = in_system(due_ns, left_ns, edges)
    found = trend(level, 1 - ALARM)
    if found is None:
        return None
    scale = len(level) / ((last_ns - middle_ns) * NS / MINUTE_S)
    mean = float(level.mean())
    return Backlog(found.low > 0, found.slope * scale, found.low * scale, found.high * scale, mean)
