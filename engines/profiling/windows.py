"""Which steps of a pass are captured, decided live: nobody knows what a step will hold before it has run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

SETTLED = 4  # steps of a kind in a row before a window for that kind opens
QUIET = 8  # steps in a row without what a window counts, after which no more of it is expected


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of consecutive steps.

    `opens`: "start", "decode" (steps without prefill, with at least the usual batch, have come in a row), "full"
    (likewise, with the largest batch) or the number of its first step. `counts`: "any", "prefill" or "decode" steps
    are counted, and it closes after `steps` of them, after `most` steps altogether, or after `most_s` seconds. One that
    has not opened after `wait_s` seconds is left out.
    """

    opens: str | int
    counts: str
    steps: int | None = None
    most: int | None = None
    most_s: float | None = None
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a step once it has run."""

    prefill: bool
    running: int


class Chooser:
    """Steps through the windows, one after the other. `batch` is the measured run's (usual, largest) batch."""

    def __init__(self, windows: Sequence[Window], batch: Sequence[int | None]) -> None:
        self._windows = list(windows)
        self._usual, self._largest = (size or 1 for size in batch)
        self._number = 0  # of the coming step
        self._decoding = self._full = 0  # steps of that kind in a row, up to now
        self._begun_ns = self._waiting_ns = -1  # since when a window is open, or the next one is waited for
        self._inside = self._counted = self._uncounted = 0
        self.index = 0  # of the window that is open or comes next
        self.left_out: list[Window] = []

    @property
    def through(self) -> bool:
        """Whether every window has been closed, or left out."""
        return self.index >= len(self._windows)

    def captures(self) -> bool:
        """Whether the coming step belongs to a window."""
        if self.through:
            return False
        if self._begun_ns >= 0:
            return True
        window, now_ns = self._windows[self.index], time.monotonic_ns()
        if self._opens(window.opens):
            self._begun_ns, self._waiting_ns = now_ns, -1
            self._inside = self._counted = self._uncounted = 0
            return True
        if self._waiting_ns < 0:
            self._waiting_ns = now_ns
        if window.wait_s is not None and now_ns - self._waiting_ns > window.wait_s * 1e9:
            self.left_out.append(window)
            self._waiting_ns = -1
            self.index += 1
        return False

    def saw(self, step: Seen) -> bool:
        """Takes note of a step that has run; whether it was a window's last."""
        self._number += 1
        self._decoding = 0 if step.prefill or step.running < self._usual else self._decoding + 1
        self._full = 0 if step.running < self._largest else self._full + 1
        if self._begun_ns < 0:
            return False
        window = self._windows[self.index]
        counted = window.counts == "any" or (window.counts == "prefill") == step.prefill
        self._inside += 1
        self._counted += counted
        self._uncounted = 0 if counted else self._uncounted + 1
        if not self._is_over(window):
            return False
        self._begun_ns = -1
        self.index += 1
        return True

    def _opens(self, when: str | int) -> bool:
        if when == "start":
            return True
        if when == "decode":
            return self._decoding >= SETTLED
        if when == "full":
            return self._full >= SETTLED
        return self._number >= int(when)

    def _is_over(self, window: Window) -> bool:
        return (
            (window.steps is not None and self._counted >= window.steps)
            or (window.most is not None and self._inside >= window.most)
            or (window.most_s is not None and time.monotonic_ns() - self._begun_ns >= window.most_s * 1e9)
            or (window.counts == "prefill" and self._uncounted >= QUIET)
        )
