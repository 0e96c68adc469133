"""Where the time of the steps went: wall time, its phases, and the gaps between one step and the next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.latency import finished
from innerloop.harness.analysis.summary import summary
from innerloop.harness.schema.common import Level, Summary
from innerloop.harness.schema.steps import StepSeconds, StepShare, TimeShare

IDLE_SHARE = 0.05  # of the window: beyond it the load set the pace and not the engine


def edges(steps: np.ndarray, header: Mapping[str, int]) -> tuple[int, int]:
    """The window's start and end in ns; a window that was never closed ends with its last step, (0, 0) never opened."""
    start_ns = header["start_ns"]
    if start_ns <= 0:
        return 0, 0
    last = int(steps["end_ns"][-1]) if len(steps) else start_ns
    return start_ns, header["end_ns"] or max(last, start_ns)


def wall_ns(steps: np.ndarray) -> np.ndarray:
    """Each step's duration, int64 [steps]."""
    begin, end = steps["start_ns"], steps["end_ns"]
    return end - begin


def other_host_ns(steps: np.ndarray) -> np.ndarray:
    """Wall minus all reported phases, of the steps that report `execute` (without it the rest is no remainder)."""
    rows = steps[known(steps["execute_ns"])]
    rest = wall_ns(rows)
    for phase in PHASES:
        column = rows[f"{phase}_ns"]
        rest = rest - np.where(known(column), column, 0)
    return rest


def step_s(steps: np.ndarray, requests: np.ndarray, observed: bool = False) -> StepSeconds:
    """Summaries of wall time, of every phase and of the remainder; a phase never reported is all None.

    `decode_only` and `with_prefill` are the wall times of the steps that computed no prompt position and of those
    that did, where the engine says. An engine whose own loop is only `observed` has no bubbles.
    """
    wall = wall_ns(steps)
    prefill = steps["prefill_tokens"]
    phases = {}
    for phase in PHASES:
        column = steps[f"{phase}_ns"]
        phases[phase] = summary(column[known(column)], NS)
    return StepSeconds(
        wall=summary(wall, NS),
        **phases,
        other_host=summary(other_host_ns(steps), NS),
        decode_only=summary(wall[prefill == 0], NS),
        with_prefill=summary(wall[prefill > 0], NS),
        bubble=summary(np.empty(0)) if observed else bubble_s(steps, requests),
    )


def step_share(steps: np.ndarray) -> StepShare:
    """Each phase's share of the wall time of the steps that report it, 0 to 1; the remainder's likewise."""
    wall = wall_ns(steps)
    phases = {}
    for phase in PHASES:
        column = steps[f"{phase}_ns"]
        have = known(column)
        phases[phase] = _share(int(column[have].sum()), int(wall[have].sum()))
    have = known(steps["execute_ns"])
    return StepShare(**phases, other_host=_share(int(other_host_ns(steps).sum()), int(wall[have].sum())))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None


def gaps_ns(
    steps: np.ndarray, requests: np.ndarray, start_ns: int, end_ns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The time outside steps, gap by gap: (length, idle part, bubble part), int64 [steps + 1] each.

    Gap 0 lies before the first step, the last one behind the last step. Idle is the time in which no request was due
    and unfinished; the rest of a gap is a bubble: there was work, and no step ran. Overlapping steps have a gap of 0.
    """
    ends = np.concatenate(([start_ns], np.maximum.accumulate(steps["end_ns"])))
    starts = np.concatenate((steps["start_ns"], [end_ns]))
    length = np.maximum(starts - ends, 0)
    due, last = requests["due_ns"], requests["last_token_ns"]
    due, last = np.sort(due[due >= 0]), np.sort(last[finished(requests)])
    arrived = np.searchsorted(due, ends, side="right")
    working = arrived > np.searchsorted(last, ends, side="right")
    next_due = np.append(due, np.iinfo(np.int64).max)[arrived]
    idle = np.where(working, 0, np.clip(np.minimum(next_due, starts) - ends, 0, length))
    return length, idle, length - idle


def time_share(
    steps: np.ndarray, requests: np.ndarray, start_ns: int, end_ns: int, observed: bool = False
) -> TimeShare:
    """Shares of the window spent in steps, between steps while there was work (bubbles), and with no work (idle).

    Where an engine's own loop is only `observed`, a step begins where the last one ended: only idle is known.
    """
    window = end_ns - start_ns
    if window <= 0 or len(steps) == 0:
        return TimeShare(None, None, None)
    _, idle, bubble = gaps_ns(steps, requests, start_ns, end_ns)
    bubbles, idles = float(bubble.sum() / window), float(idle.sum() / window)
    if observed:
        return TimeShare(steps=None, bubbles=None, idle=idles)
    return TimeShare(steps=1.0 - bubbles - idles, bubbles=bubbles, idle=idles)


def bubble_s(steps: np.ndarray, requests: np.ndarray) -> Summary:
    """Summary in seconds of the bubble between each step and the next one (not of those at the window's edges)."""
    if len(steps) < 2:
        return summary(np.empty(0))
    _, _, bubble = gaps_ns(steps, requests, int(steps["start_ns"][0]), int(steps["end_ns"][-1]))
    return summary(bubble[1:-1], NS)


FULL = 0.95  # of the largest batch of the run


def usual_batch(steps: np.ndarray) -> list[int | None]:
    """(usual, largest) batch of a run: the median over its steps' time, and what counts as full
    (docs/method/steps.md)."""
    running = steps["running"]
    if len(steps) == 0 or (running < 0).any():
        return [None, None]
    order = np.argsort(running)
    time_up_to = np.cumsum(wall_ns(steps)[order])
    middle = int(np.searchsorted(time_up_to, time_up_to[-1] / 2))
    return [int(running[order[middle]]), int(np.ceil(FULL * running.max()))]


def level(steps: np.ndarray, name: str) -> Level:
    """Mean (weighted by the steps' wall time) and maximum of `running`, `waiting` or `kv_usage`."""
    rows = steps[known(steps[name])]
    weight = wall_ns(rows)
    if len(rows) == 0 or weight.sum() <= 0:
        return Level(None, None)
    mean = float(np.average(rows[name], weights=weight))
    return Level(mean, rows[name].max().item())
