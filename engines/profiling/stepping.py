"""Wraps an engine's step: opens and closes the profiler around the chosen steps, and ends the pass after them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innerloop.engines.contract import Engine, Request, StepReport
from innerloop.engines.profiling.capture import Capture
from innerloop.engines.profiling.windows import Chooser, Seen


class Enough(Exception):
    """Every chosen step has been captured: the rest of the workload need not run."""


class Stepping:
    """Takes the place of `submit` and `step` on this instance of an engine.

    A step's number is that of its record in the pass's trace. `Enough` is raised when another step is asked for after
    the last window, so that the last step of it is recorded too. `tell(event, ...)` says when windows open and close.
    """

    def __init__(self, engine: Engine, capture: Capture, chooser: Chooser, tell: Callable[..., None]) -> None:
        self._capture, self._chooser, self._tell = capture, chooser, tell
        self._step, self._submit = engine.step, engine.submit
        self._ranges = capture.ranges()
        self._fresh: set[int] = set()  # requests without a token
        self._number = 0
        self._open = False
        self._captured: list[tuple[int, int, int, int]] = []
        vars(engine).update(step=self.step, submit=self.submit)

    def submit(self, request: Request) -> None:
        self._fresh.add(request.index)
        self._submit(request)

    def step(self) -> StepReport | None:
        if self._chooser.through:
            raise Enough
        if not self._chooser.captures():
            self._tell_left_out()
            report = self._step()
            if report is not None:
                self._note(report)
            return report
        if not self._open:
            self._capture.open()
            self._open = True
            self._tell("capture", open=True, step=self._number)
        window, begun = self._chooser.index, time.monotonic_ns()
        report = self._ranged_step()
        ended = time.monotonic_ns()
        self._captured.append((self._number, begun, ended, window))
        if report is not None:
            self._capture.mark(words(self._number, report))
            if self._note(report):
                self.close()
        return report

    def close(self) -> None:
        """Closes the profiler if a window is open."""
        if self._open:
            self._open = False
            self._capture.close()
            self._tell("capture", open=False, step=self._number)

    def write(self, path: Path) -> None:
        """Writes every captured call of step: its number, start_ns and end_ns (monotonic) and its window."""
        path.write_text(json.dumps({"columns": ["step", "start_ns", "end_ns", "window"], "rows": self._captured}))

    def _tell_left_out(self) -> None:
        for window in self._chooser.left_out:
            kind = {"decode": "decode-only steps in a row at the usual batch", "full": "steps with a full batch"}[
                str(window.opens)
            ]
            self._tell("note", text=f"{kind} did not come within {window.wait_s:g} s and are not captured")
        self._chooser.left_out.clear()

    def _ranged_step(self) -> StepReport | None:
        if self._ranges is None:
            return self._step()
        push, pop = self._ranges
        push(f"step {self._number}")
        try:
            return self._step()
        finally:
            pop()

    def _note(self, report: StepReport) -> bool:
        """Whether this step was a window's last. Where an engine does not tell its prefill positions, a step that gave
        a first token is taken for one with prefill."""
        self._number += 1
        first = self._fresh.intersection(request for request, _ in report.tokens)
        self._fresh -= first
        prefill = bool(first) if report.prefill_tokens is None else report.prefill_tokens > 0
        running = len(report.tokens) if report.running is None else report.running
        return self._chooser.saw(Seen(prefill, running))


def words(number: int, report: StepReport) -> str:
    """A step's make-up, for people who look at a timeline."""
    facts: dict[str, Any] = {
        "prefill": report.prefill_tokens,
        "decode": report.decode_tokens,
        "running": report.running,
        "waiting": report.waiting,
    }
    known = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    return f"step {number}: {known or 'make-up unknown'}"
