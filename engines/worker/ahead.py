"""Requests made ready before they are due, as an engine's own input thread would while the model runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

MOST_TOKENS = 1 << 22  # prompt tokens ready at a time, at some 40 bytes each


class Ahead:
    """Makes requests ready in the order in which they become due: those with a time of their own, then those that
    follow others (`due_ns` -1), by index, but for those that cannot be made yet (`later`, bool [n]; None: there are
    none). `create(index)` is what makes one; `due_ns` and `prompt_lens` are int64 [n]."""

    def __init__(
        self,
        due_ns: np.ndarray,
        prompt_lens: np.ndarray,
        create: Callable[[int], Any],
        later: np.ndarray | None = None,
        most_tokens: int = MOST_TOKENS,
    ) -> None:
        timed = np.flatnonzero(due_ns >= 0)
        timed = timed[np.argsort(due_ns[timed], kind="stable")]
        following = due_ns < 0 if later is None else (due_ns < 0) & ~later
        self._order: list[int] = [*timed.tolist(), *np.flatnonzero(following).tolist()]
        self._lens: list[int] = prompt_lens.tolist()
        self._create, self._most = create, most_tokens
        self._next = 0  # in the order
        self._taken = [False] * len(self._lens)
        self._ready: dict[int, Any] = {}
        self._held = 0  # prompt tokens of those that are ready
        self._longest_ns = 0  # that making one has taken

    def fill(self, until_ns: int | None = None) -> None:
        """Makes requests ready while there is room and, where `until_ns` (monotonic) is given, time for another."""
        clock = time.monotonic_ns
        while self._next < len(self._order):
            index = self._order[self._next]
            if not self._taken[index]:
                begun = clock()
                late = until_ns is not None and begun + self._longest_ns > until_ns
                if late or (self._ready and self._held + self._lens[index] > self._most):
                    return
                self.make(index)
                self._longest_ns = max(self._longest_ns, clock() - begun)
            self._next += 1

    def make(self, index: int) -> None:
        """Makes this one ready."""
        self._ready[index] = self._create(index)
        self._held += self._lens[index]

    def take(self, index: int) -> Any:
        """The request, made now where it is not ready."""
        self._taken[index] = True
        if index not in self._ready:
            return self._create(index)
        self._held -= self._lens[index]
        return self._ready.pop(index)
