"""Waiting for what must come, however long a busy machine takes for it, and a clock that does not run by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

PATIENCE_S = 120.0  # only what never comes takes so long


def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Returns once the condition holds; fails when it does not hold in all that time. Looks less often with time."""
    deadline, pause_s = time.monotonic() + patience_s, 0.005
    while not condition():
        assert time.monotonic() < deadline, f"it did not come within {patience_s:g} s"
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.2, 0.1)


def gone(pid: int) -> bool:
    """Whether a process has ended: a zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Clock:
    """Stands in for the module `time`: it is later only where somebody slept, or `now_ns` was set."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_ns / 1e9

    time_ns, thread_time = monotonic_ns, monotonic

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
