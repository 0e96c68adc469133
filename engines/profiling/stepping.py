"""Wraps an engine's step: opens and closes the profiler around the chosen steps, and ends the pass after them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innerloop.engines.contract import Nothing, Request, Session, StepReport
from innerloop.engines.profiling.capture import Capture
from innerloop.engines.profiling.windows import Chooser, Seen


class AllWindowsCaptured(Exception):
    """Every chosen step has been captured: the rest of the workload need not run."""


class Stepping:
    """Takes the place of `prepare` and `step` on this session.

    A step's number is that of its record in the pass's trace. `AllWindowsCaptured` is raised when another step is asked
    for after the last window, so that the last step of it is recorded too. `tell(event, ...)` says when windows open
    and close.
    """

    def __init__(self, session: Session, capture: Capture, chooser: Chooser, tell: Callable[..., None]) -> None:
        self._capture, self._chooser, self._tell = capture, chooser, tell
        self._step, self._prepare = session.step, session.prepare
        self._ranges = capture.ranges()
        self._fresh: set[int] = set()  # requests without a token
        self._number = 0
        self._open = False
        self._captured: list[tuple[int, int, int, int]] = []
        vars(session).update(step=self.step, prepare=self.prepare)

    def prepare(self, request: Request) -> Any:
        self._fresh.add(request.id)
        return self._prepare(request)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if self._chooser.through:
            raise AllWindowsCaptured
        if not self._chooser.captures():
            self._tell_left_out()
            report = self._step(until_ns)
            if not isinstance(report, Nothing):
                self._note(report)
            return report
        if not self._open:
            self._capture.open()
            self._open = True
            self._tell("capture", open=True, step=self._number)
        window, begun = self._chooser.index, time.monotonic_ns()
        report = self._ranged_step(until_ns)
        ended = time.monotonic_ns()
        self._captured.append((self._number, begun, ended, window))
        if not isinstance(report, Nothing):
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
            kind = {"decode": "decode-only steps at the usual batch size", "full": "steps with a full batch"}[
                str(window.opens)
            ]
            self._tell("note", text=f"no run of {kind} occurred within {window.wait_s:g} s, so none was captured")
        self._chooser.left_out.clear()

    def _ranged_step(self, until_ns: int | None) -> StepReport | Nothing:
        if self._ranges is None:
            return self._step(until_ns)
        push, pop = self._ranges
        push(f"step {self._number}")
        try:
            return self._step(until_ns)
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
    return f"step {number}: {known or 'composition unknown'}"
