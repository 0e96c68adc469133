"""How long a step of an engine whose loop is its own thread may wait for that loop."""

from __future__ import annotations

import time

WAIT_S = 0.1  # then the caller gets a look at the clock, whether or not anything is due


def seconds_left(due_ns: int | None, most_s: float = WAIT_S) -> float:
    """`most_s`, or less where the next request is due before: the seconds until `due_ns` (monotonic), at least 0."""
    if due_ns is None:
        return most_s
    return min(max((due_ns - time.monotonic_ns()) / 1e9, 0.0), most_s)
