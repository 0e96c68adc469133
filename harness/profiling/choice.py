"""What `--profiler` and `--profiler-steps` ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypedDict

from innerloop.engines.profiling.windows import Window
from innerloop.harness.cli.errors import Refused, nearest

KINDS = ("kernels", "nsys", "ncu", "host")
NAMED = ("prefill", "decode", "steady")
TOOLS = ("nsys", "ncu")  # they start the worker

WAIT_S = 120.0  # for steps of a kind to come: under a dense load every step may hold somebody's prefill
PREFILL = Window(opens="start", counts="prefill", steps=12, most=24)
DECODE = Window(opens="decode", counts="decode", steps=24, most=96, wait_s=WAIT_S)
STEADY = Window(opens="full", counts="any", steps=48, wait_s=WAIT_S)
HOST_S = 20.0  # the longest that the host side is sampled unless steps are named

DEFAULT: dict[str, tuple[str, tuple[Window, ...]]] = {
    "kernels": ("prefill, then decode", (PREFILL, DECODE)),
    "nsys": ("steady", (STEADY,)),
    "ncu": ("decode", (replace(DECODE, steps=1, most=4),)),
    "host": (f"the first {HOST_S:g} s", (Window(opens="start", counts="any", most_s=HOST_S),)),
}


class DescribedWindow(TypedDict):
    """A `Window` as JSON data."""

    opens: str | int
    counts: str
    steps: int | None
    most: int | None
    most_s: float | None
    wait_s: float | None


class DescribedProfile(TypedDict):
    """A pass as JSON data."""

    kind: str
    steps: str
    windows: list[DescribedWindow]


@dataclass(frozen=True, slots=True)
class Profile:
    """One pass: its kind, its steps as asked or by default, and as windows."""

    kind: str
    steps: str
    windows: tuple[Window, ...]

    def describe(self) -> DescribedProfile:
        """As plain data: also what the worker's job says of its windows."""
        return {"kind": self.kind, "steps": self.steps, "windows": [described(window) for window in self.windows]}


def described(window: Window) -> DescribedWindow:
    return {
        "opens": window.opens,
        "counts": window.counts,
        "steps": window.steps,
        "most": window.most,
        "most_s": window.most_s,
        "wait_s": window.wait_s,
    }


def choose(kind: str | None, steps: str | None) -> Profile | None:
    """The pass that the command line asks for; None without one.

    Raises:
        Refused: there is no such kind, or such steps.
    """
    if kind is None:
        if steps is not None:
            raise Refused(f"--profiler-steps {steps} without --profiler; add --profiler {'|'.join(KINDS)}")
        return None
    if kind not in KINDS:
        raise Refused(f"--profiler: there is no profiler {kind!r}{nearest(kind, KINDS)}")
    if steps is None:
        return Profile(kind, *DEFAULT[kind])
    return Profile(kind, steps, (window(kind, steps),))


def window(kind: str, steps: str) -> Window:
    """`prefill`, `decode`, `steady` or A:B, steps A to B - 1 of the window, counted from 0."""
    if steps in NAMED:
        named = {"prefill": PREFILL, "decode": DECODE, "steady": STEADY}[steps]
        if kind == "ncu":  # it runs every kernel many times over
            return replace(named, steps=1, most=4)
        return named
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", steps)
    if match is None:
        raise Refused(f"--profiler-steps: {steps!r} is not A:B or one of {', '.join(NAMED)}{nearest(steps, NAMED)}")
    first, end = map(int, match.groups())
    if end <= first:
        raise Refused(f"--profiler-steps: {steps} selects no steps; A:B selects the steps from A to B - 1")
    return Window(opens=first, counts="any", steps=end - first)
