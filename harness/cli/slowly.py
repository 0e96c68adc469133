"""Says what goes on and for how long, once it takes longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_S = 2.0  # after which is said what takes so long
EVERY_S = 10.0  # and again


class Slowly:
    """`tick` is called often; `say` hears of it seldom."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._begun = time.monotonic()
        self._next_s = FIRST_S

    def tick(self, doing: str, first: str = "") -> None:
        """`first` is added the first time."""
        elapsed_s = time.monotonic() - self._begun
        if elapsed_s >= self._next_s:
            more = first if self._next_s == FIRST_S else ""
            self._next_s = elapsed_s + EVERY_S
            self._say(f"{doing}: {elapsed_s:.0f} s{more}")
