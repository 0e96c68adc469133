"""The line that a user watches while an engine loads, warms up and is measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.launcher import Outcome

if TYPE_CHECKING:
    from rich.console import Console

RATE_WINDOW_S = 2.0  # tokens/s is that of the last seconds
PLAIN_EVERY_S = 10.0  # where the output is no terminal
WORDS = {
    "start": "starting the engine's interpreter",
    "import": "importing the engine",
    "load": "loading the model",
    "warmup": "warming up",
    "measure": "measuring",
    "close": "closing the engine",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What the trace's pages say at one moment."""

    tokens: int
    finished: int
    running: int | None
    kv_usage: float | None


def read(folder: Path) -> Reading | None:
    """Reads the pages that the worker is writing; None before it has opened them."""
    from engines import trace

    try:
        head = trace.header(folder / "steps.bin")
        steps = trace.records(folder, "steps")
    except (OSError, ValueError):
        return None
    if not len(steps):
        return Reading(0, 0, None, None)
    last = steps[-1]
    running, kv = int(last["running"]), float(last["kv_usage"])
    return Reading(
        int(head["tokens"]), int(head["finished"]), running if running >= 0 else None, kv if kv == kv else None
    )


class LiveView:
    """A progress line, redrawn in place on a terminal and printed now and then elsewhere.

    Remaining time is that of the workload's duration, or else what the tokens still to come take at the present
    rate.
    """

    def __init__(self, console: Console, trace: Path, tokens: int, requests: int, duration_s: float | None) -> None:
        self._console, self._trace = console, trace
        self._tokens, self._requests, self._duration_s = tokens, requests, duration_s
        self._phase = ""
        self._since = time.monotonic()
        self._printed = 0.0
        self._history: list[tuple[float, int]] = []
        self._status = console.status("") if console.is_terminal else None

    def __enter__(self) -> LiveView:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def tick(self, outcome: Outcome) -> None:
        phase = next(reversed(outcome.phases), "start")
        if phase == "done":
            return
        now = time.monotonic()
        if phase != self._phase:
            if self._phase:
                self._console.print(f"{WORDS[self._phase]}: {now - self._since:.1f} s", style="dim", highlight=False)
            self._phase, self._since, self._printed, self._history = phase, now, now, []
        if self._status is not None:
            self._status.update(self.line(now))
        elif now - self._printed >= PLAIN_EVERY_S:
            self._printed = now
            self._console.print(self.line(now), highlight=False)

    def line(self, now: float) -> str:
        elapsed = now - self._since
        folder = self._trace / ("measure" if self._phase == "measure" else "warmup")
        reading = read(folder) if self._phase in ("measure", "warmup") else None
        text = f"{WORDS[self._phase]}  {elapsed:.0f} s"
        if reading is None:
            return text
        self._history = [(t, n) for t, n in self._history if now - t <= RATE_WINDOW_S] + [(now, reading.tokens)]
        (t0, n0), (t1, n1) = self._history[0], self._history[-1]
        rate = (n1 - n0) / (t1 - t0) if t1 > t0 else None
        if self._phase == "measure":
            text += self._remaining(elapsed, reading, rate)
            text += f"   {reading.finished}/{self._requests} requests" if self._duration_s is None else ""
        if rate is not None:
            text += f"   {rate:,.0f} tok/s"
        if reading.running is not None:
            text += f"   batch {reading.running}"
        if reading.kv_usage is not None:
            text += f"   KV {reading.kv_usage:.0%}"
        return text

    def _remaining(self, elapsed: float, reading: Reading, rate: float | None) -> str:
        if self._duration_s is not None:
            return f" of {self._duration_s:.0f} s"
        if rate:
            return f", about {(self._tokens - reading.tokens) / rate:.0f} s left"
        return ""
