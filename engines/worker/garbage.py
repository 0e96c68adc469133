"""Python's garbage collection: paused during imports; before the window collected, and in it counted, alike for all."""

from __future__ import annotations

import gc
import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

MOST = 20
LEAST_NS = 1_000_000


@contextmanager
def importing() -> Iterator[None]:
    """No collection looks at what imports make, then or in the load: objects by the million, nearly all of which stay.

    An engine that unfreezes has its later collections look at it again, as vLLM and SGLang after a capture of graphs.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


@contextmanager
def frozen() -> Iterator[None]:
    """What lives now is left out of collections, even if the engine unfreezes. For a process that ends afterwards.

    When vLLM closes, it unfreezes and collects twice, each time a look at all that it has imported.
    """
    unfreeze = gc.unfreeze
    gc.freeze()
    gc.unfreeze = lambda: None
    try:
        yield
    finally:
        gc.unfreeze = unfreeze


def settle_garbage() -> None:
    """Collects what there is, of imports too, and keeps what stays out of later collections, which then look at the
    window's own: how often they are full ones depends on how much the last full one has left."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class Pauses:
    """Calls `paused` with the nanoseconds of every collection in this process, from `start` until `stop`, and keeps the
    MOST longest of them from LEAST_NS on: `longest` holds (nanoseconds, monotonic ns at which it began)."""

    def __init__(self, paused: Callable[[int], object]) -> None:
        self._paused, self._begun = paused, 0
        self.longest: list[tuple[int, int]] = []

    def start(self) -> None:
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        with suppress(ValueError):  # it never started
            gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._begun = time.monotonic_ns()
        else:
            spent_ns = time.monotonic_ns() - self._begun
            self._paused(spent_ns)
            if spent_ns >= LEAST_NS:
                (heapq.heappush if len(self.longest) < MOST else heapq.heappushpop)(
                    self.longest, (spent_ns, self._begun)
                )
