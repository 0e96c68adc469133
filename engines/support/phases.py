"""The time spent in each phase of a step, by wrapping the calls that make it up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from innerloop.engines.support.marks import ranged

P = ParamSpec("P")
R = TypeVar("R")


class Phases:
    """`spent` holds the nanoseconds of each phase since `begin`. A profiler that is on sees a range of each call."""

    def __init__(self, *names: str) -> None:
        self.spent = dict.fromkeys(names, 0)

    def begin(self) -> int:
        """Forgets the last step; returns the time at which this one starts (monotonic ns)."""
        for name in self.spent:
            self.spent[name] = 0
        return time.monotonic_ns()

    def timed(
        self, phase: str, call: Callable[P, R], without: str | None = None, mark: str | Callable[[], str] | None = None
    ) -> Callable[P, R]:
        """`call` with its time added to `phase`, also when it raises; what it spent in the phase `without` is not.

        `mark` names the range for profilers: the phase unless given.
        """
        spent, clock, marked = self.spent, time.monotonic_ns, ranged(mark or phase, call)

        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            inner = spent[without] if without else 0
            begun = clock()
            try:
                return marked(*args, **kwargs)
            finally:
                spent[phase] += clock() - begun - ((spent[without] - inner) if without else 0)

        return wrapper
