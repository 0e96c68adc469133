"""Bare and recorded steps in turn, within one run of the loop: the observer effect without the machine's slow drift."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from innerloop.engines.contract import Engine, StepReport


@dataclass(frozen=True, slots=True)
class Bare:
    """The engine's own step: what to call, what its outputs hold, and a context in which no wrapper is in place."""

    step: Callable[[], Any]
    taken: Callable[[Any], tuple[list[tuple[int, list[int]]], list[int]]]
    unwrapped: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Timed:
    kind: str
    took_ns: int
    requests: int


class Alternating:
    """An engine for `drive` that takes some of its decode steps bare and the others as the product does.

    Two neighbouring steps of the same number of requests make a pair, one bare and one recorded, which of them first
    being drawn. A recorded step lasts until the loop asks for the next one, so that the recorder and the loop are in
    it; a bare one is the engine's own calls, and what makes a report of their outputs afterwards is in neither.
    """

    due_ns = None

    def __init__(self, engine: Engine, bare: Bare) -> None:
        self._engine, self._bare = engine, bare
        self.submit, self.has_work = engine.submit, engine.has_work
        self._draw = random.Random(0)
        self._began: tuple[int, int] | None = None  # a recorded step that goes on, and its requests
        self._first: Timed | None = None  # of a pair
        self._decoding = False  # what the next step can be compared with has begun
        self.pairs: list[tuple[int, int]] = []  # ns: bare, recorded

    def step(self) -> StepReport | None:
        self._end(time.monotonic_ns())
        if self._decoding and self._next() == "bare":
            return self._bare_step()
        begun = time.monotonic_ns()
        report = self._engine.step()
        if report is None or report.prefill_tokens:
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
        tokens, finished = self._bare.taken(outputs)
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
