"""Python's garbage collection in the window: collected before it, alike for every engine, and counted in it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def settle_garbage() -> None:
    """Collects what there is and keeps what stays out of later collections, which then look at the window's own."""
    gc.collect()
    gc.freeze()


class Pauses:
    """Calls `paused` with the nanoseconds of every collection in this process, from `start` until `stop`."""

    def __init__(self, paused: Callable[[int], object]) -> None:
        self._paused, self._begun = paused, 0

    def start(self) -> None:
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        with suppress(ValueError):  # it never started
            gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._begun = time.monotonic_ns()
        else:
            self._paused(time.monotonic_ns() - self._begun)
