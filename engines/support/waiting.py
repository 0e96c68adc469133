"""How long a step of an engine whose loop is its own thread may wait for that loop."""

from __future__ import annotations

import time

WAIT_S = 0.1  # then the caller gets a look at the clock, whether or not anything is due


def seconds_left(until_ns: int | None, most_s: float = WAIT_S) -> float:
    """`most_s`, or less where `until_ns` (monotonic) comes before; at least 0."""
    if until_ns is None:
        return most_s
    return min(max((until_ns - time.monotonic_ns()) / 1e9, 0.0), most_s)
