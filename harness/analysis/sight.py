"""What each step attends to where layers see a window only: pairs of positions, and context read from the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.context import arrivals, pieces, prefill_jobs, sane


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
    tokens = sane(tokens, count, len(requests))
    step, request, prompt, before = arrivals(tokens, requests)
    fed = tokens["count"].astype(np.float64)
    fed -= before == 0
    parts = pieces(steps, prefill_jobs(steps, requests, step, request, prompt, before))
    unknown = np.where(known(steps["prefill_tokens"]), 0.0, np.nan)
    found = {}
    for window in windows:
        decode = np.bincount(step, capped(prompt + np.maximum(before, 1), fed, window), minlength=count)
        prefill = np.bincount(parts.step, capped(parts.start + 1, parts.sizes, window), minlength=count)
        read = np.bincount(parts.step, np.minimum(parts.start, window - 1), minlength=count)
        positions = np.bincount(step, fed, minlength=count)
        found[window] = Seen(decode + prefill + unknown, decode - positions + read + unknown)
    return found


def capped(first: np.ndarray, count: np.ndarray, most: int) -> np.ndarray:
    """min(first, most) + min(first + 1, most) + ... of `count` terms, float64."""
    below = np.clip(most - first, 0, count)
    return np.asarray(below * first + below * (below - 1) / 2 + (count - below) * most, dtype=np.float64)
