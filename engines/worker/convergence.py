"""The rule that ends a warm-up: when a round's speed no longer changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

TOLERANCE = 0.05
WINDOW = 3


def has_converged(rates: Sequence[float], tolerance: float = TOLERANCE, window: int = WINDOW) -> bool:
    """Whether the last `window` rounds ran at one speed. `rates` holds each round's output tokens a second, in order.

    Two conditions, both over the last `window` rounds: every one lies within `tolerance` (a fraction) of their median,
    and they are not still getting faster: when each is faster than the one before, first to last differ by at most
    half of `tolerance`. Fewer rounds than `window`, or a rate that is not a positive finite number, is not settled.
    """
    if window < 2 or tolerance <= 0:
        raise ValueError(f"needs a window of 2 rounds or more and a positive tolerance, not {window} and {tolerance}")
    last = list(rates[-window:])
    if len(last) < window or not all(math.isfinite(rate) and rate > 0 for rate in last):
        return False
    middle = median(last)
    if any(abs(rate - middle) > tolerance * middle for rate in last):
        return False
    rising = all(later > earlier for earlier, later in pairwise(last))
    return not (rising and last[-1] > last[0] * (1 + tolerance / 2))


def deviation(rates: Sequence[float], window: int = WINDOW) -> float | None:
    """How far one of the last `window` rounds lies from their median at most, as a fraction of it; None: too few."""
    last = list(rates[-window:])
    middle = median(last) if len(last) == window else 0.0
    return max(abs(rate - middle) for rate in last) / middle if middle > 0 else None
