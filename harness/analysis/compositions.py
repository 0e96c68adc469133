"""A run's steps by their composition: how often each kind of step came for an output token, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.steps import gaps_ns, wall_ns

PARTS = (*PHASES, "rest", "gap")  # of a step's time: its phases, what no phase names, and the gap behind it
EXACT = 8  # counts up to this are told apart one by one
GROWTH = {"prefill": 1.5, "decode": 1.1, "context": 1.25}  # beyond, each bin is this much wider than the one before


@dataclass(frozen=True)
class Run:
    """A run's steps, float64 [steps] each. parts: seconds by PARTS, NaN where the engine does not report a phase;
    their sum is `seconds`, the step's wall time and the gap behind it in which there was work.

    prefill, decode, context: positions computed and tokens of context read; NaN: not reported.
    """

    tokens: int
    seconds: np.ndarray
    parts: dict[str, np.ndarray]
    prefill: np.ndarray
    decode: np.ndarray
    context: np.ndarray


def run_of(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray, start_ns: int, end_ns: int) -> Run:
    """`steps`, `tokens` and `requests` are of dtype STEP, TOKEN and REQUEST, the window's edges in ns."""
    wall = wall_ns(steps) * NS
    _, _, bubble = gaps_ns(steps, requests, start_ns, end_ns)
    gap = bubble[1:] * NS
    if len(gap):
        gap[0] += bubble[0] * NS  # before the first step
    parts, rest = {}, wall.copy()
    for phase in PHASES:
        column = steps[f"{phase}_ns"]
        parts[phase] = np.where(known(column), column * NS, np.nan)
        rest -= np.where(known(column), column * NS, 0.0)
    done = work(steps, tokens, requests)
    return Run(
        tokens=int(steps["output_tokens"].sum(dtype=np.int64)),
        seconds=wall + gap,
        parts={**parts, "rest": rest, "gap": gap},
        prefill=done.prefill,
        decode=done.decode,
        context=done.kv_read,
    )


@dataclass(frozen=True)
class Binned:
    """A run's steps by bin, float64 [bins] each: `rate` steps for an output token, `cost` mean seconds of one, `parts`
    the same by PARTS (NaN where it is not known), `positions` means of prefill, decode and context."""

    rate: np.ndarray
    cost: np.ndarray
    parts: dict[str, np.ndarray]
    positions: dict[str, np.ndarray]


def bins_of(runs: list[Run]) -> list[np.ndarray]:
    """The bin of each step of each run, int64 [steps]; the same composition has the same number in all runs."""
    keys = [np.column_stack([_level(run, name) for name in GROWTH]) for run in runs]
    _, numbers = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    return np.split(numbers.ravel(), np.cumsum([len(key) for key in keys])[:-1])


def _level(run: Run, name: str) -> np.ndarray:
    """Which bin of one column each step falls into: exact counts first, then ever wider ones; -1: not reported."""
    values = getattr(run, name)
    unknown = np.isnan(values)
    large = np.maximum(np.where(unknown, 0.0, values), 1.0) / EXACT
    beyond = np.maximum(np.floor(np.log(np.maximum(large, 1.0)) / np.log(GROWTH[name])), 0.0)
    levels = np.where(values <= EXACT, np.rint(np.where(unknown, 0.0, values)), EXACT + 1 + beyond)
    return np.where(unknown, -1, levels).astype(np.int64)


def binned(run: Run, bins: np.ndarray, count: int) -> Binned:
    """One run's steps by bin; `count` is how many bins there are in all runs together."""
    steps = np.bincount(bins, minlength=count).astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.bincount(bins, values, minlength=count) / steps

    return Binned(
        rate=steps / run.tokens,
        cost=mean(run.seconds),
        parts={name: mean(values) for name, values in run.parts.items()},
        positions={name: mean(np.nan_to_num(getattr(run, name))) for name in GROWTH},
    )
