"""What each step attends to where layers see a window only: pairs of positions, and context read from the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.context import add_by_step, pieces
from innerloop.harness.analysis.walk import Walk


@dataclass(frozen=True)
class Seen:
    """Per step, float64 [steps], as `Work.pairs` and `Work.kv_read` where a position sees a window at most, itself
    included. NaN where the engine does not report the step's prefill."""

    pairs: np.ndarray
    kv_read: np.ndarray


def seen(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray, windows: Iterable[int]) -> dict[int, Seen]:
    """By window. `steps`, `tokens` and `requests` are of dtype STEP, TOKEN and REQUEST."""
    windows = tuple(windows)
    if not windows:
        return {}
    count = len(steps)
    decode, decode_read = ({window: np.zeros(count) for window in windows} for _ in range(2))
    drafted = steps["drafted_tokens"] > 0
    walk = Walk(steps, tokens, requests)
    for part in walk:
        fed, context = part.fed, part.prompt + np.maximum(part.before, 1)
        together = drafted[part.step] & (fed > 0)
        for window in windows:
            each = capped(context, fed, window)
            add_by_step(decode[window], part.step, each)
            read = np.where(together, np.minimum(context - 1, window - 1), each - fed)
            add_by_step(decode_read[window], part.step, read)
    parts = pieces(steps, walk.jobs())
    unknown = np.where(known(steps["prefill_tokens"]), 0.0, np.nan)
    found = {}
    for window in windows:
        prefill = np.bincount(parts.step, capped(parts.start + 1, parts.sizes, window), minlength=count)
        read = np.bincount(parts.step, np.minimum(parts.start, window - 1), minlength=count)
        found[window] = Seen(decode[window] + prefill + unknown, decode_read[window] + read + unknown)
    return found


def capped(first: np.ndarray, count: np.ndarray, most: int) -> np.ndarray:
    """min(first, most) + min(first + 1, most) + ... of `count` terms, float64."""
    below = np.clip(most - first, 0, count)
    return np.asarray(below * first + below * (below - 1) / 2 + (count - below) * most, dtype=np.float64)
