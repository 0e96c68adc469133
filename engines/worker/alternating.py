"""Bare and recorded steps in turn, within one run of the loop: the observer effect without the machine's slow drift."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from innerloop.engines.contract import Bare, Nothing, Request, Session, StepReport


@dataclass(frozen=True, slots=True)
class Timed:
    kind: str
    took_ns: int
    requests: int


class Alternating(Session):
    """A session for `drive` that takes some of its decode steps bare and the others as the product does.

    Two neighbouring steps of the same number of requests make a pair, one bare and one recorded, which of them first
    being drawn. A recorded step lasts until the loop asks for the next one, so that the recorder and the loop are in
    it; a bare one is the engine's own calls, and what makes a report of their outputs afterwards is in neither.
    """

    def __init__(self, session: Session, bare: Bare) -> None:
        self._session, self._bare, self.info = session, bare, session.info
        self._draw = random.Random(0)
        self._began: tuple[int, int] | None = None  # a recorded step that goes on, and its requests
        self._first: Timed | None = None  # of a pair
        self._decoding = False  # what the next step can be compared with has begun
        self.pairs: list[tuple[int, int]] = []  # ns: bare, recorded

    def prepare(self, request: Request) -> Any:
        return self._session.prepare(request)

    def submit(self, prepared: Any) -> None:
        self._session.submit(prepared)

    def has_work(self) -> bool:
        return self._session.has_work()

    def close(self) -> None:
        self._session.close()

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        self._end(time.monotonic_ns())
        if self._decoding and self._next() == "bare":
            return self._bare_step()
        begun = time.monotonic_ns()
        report = self._session.step(until_ns)
        if isinstance(report, Nothing) or report.prefill_tokens or report.waiting:  # whose prompts may come next
            self._decoding, self._first = False, None
        else:
            self._began = (begun, len(report.tokens)) if self._decoding else None
            self._decoding = True
        return report

    def _bare_step(self) -> StepReport:
        with self._bare.unwrapped():
            begun = time.monotonic_ns()
            outputs = self._bare.step()
            end = time.monotonic_ns()
        tokens, finished = self._bare.collect(outputs)
        self._pair(Timed("bare", end - begun, len(tokens)))
        return StepReport(begun, end, tokens, finished)

    def _next(self) -> str:
        if self._first is None:
            return self._draw.choice(("bare", "recorded"))
        return "bare" if self._first.kind == "recorded" else "recorded"

    def _end(self, now_ns: int) -> None:
        if self._began is not None:
            begun, requests = self._began
            self._began = None
            self._pair(Timed("recorded", now_ns - begun, requests))

    def _pair(self, timed: Timed) -> None:
        first, self._first = self._first, None
        if first is None or first.requests != timed.requests:
            self._first = timed
            return
        bare, recorded = (timed, first) if timed.kind == "bare" else (first, timed)
        self.pairs.append((bare.took_ns, recorded.took_ns))
