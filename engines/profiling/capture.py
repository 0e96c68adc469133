"""What a profiler must be able to do to be used in a pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Ranges = tuple[Callable[[str], Any], Callable[[], Any]]  # push(name), pop()


class Capture:
    """One profiler, opened and closed around each window of steps. What it has no use for does nothing."""

    def ranges(self) -> Ranges | None:
        """How it is told of named ranges; None if it has no use for them."""
        return None

    def prepare(self) -> None:
        """Once before the first step, for what would otherwise be paid in it."""

    def open(self) -> None:
        """Before a window's first step."""

    def close(self) -> None:
        """After a window's last step."""

    def mark(self, text: str) -> None:
        """A moment, with what there is to say about the step that has just ended."""

    def write(self, folder: Path) -> None:
        """Once, when the last window is closed."""
