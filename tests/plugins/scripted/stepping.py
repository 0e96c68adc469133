"""What each call of `step` does, and until when: pure objects that are fed with the current time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from innerloop.contract import Nothing

from .formula import Durations
from .options import Spec
from .scheduler import Batch, Scheduler


@dataclass(frozen=True, slots=True)
class Step:
    """A batch that is computed between these times."""

    batch: Batch
    start_ns: int
    end_ns: int


class Stepping:
    """Each call computes a batch. Whoever calls lets the time pass: a real engine waits, a simulation jumps."""

    def __init__(self, spec: Spec, seed: int) -> None:
        self.scheduler = Scheduler(spec.limits)
        self.durations = Durations(spec.formula, seed)

    def call(self, now_ns: int, until_ns: int | None) -> tuple[Step | Nothing, int]:
        """What a call brings, and when it returns. A call that comes too late for `until_ns` computes nothing."""
        if until_ns is not None and now_ns >= until_ns:
            return Nothing.TIMED_OUT, now_ns
        step = self._next(now_ns)
        return (Nothing.FLUSHED, now_ns) if step is None else (step, step.end_ns)

    def has_work(self) -> bool:
        return self.scheduler.unfinished

    def _next(self, start_ns: int) -> Step | None:
        batch = self.scheduler.step()
        if batch is None:
            return None
        taken_ns = self.durations.next(batch.prefill, batch.decode, batch.drafted, batch.context)
        return Step(batch, start_ns, start_ns + taken_ns)


class Pipelined(Stepping):
    """Each call launches a batch and then waits for the one before: the first brings nothing out, and behind the last
    tokens an empty result is still in flight."""

    def __init__(self, spec: Spec, seed: int) -> None:
        super().__init__(spec, seed)
        self._in_flight: deque[Step] = deque()  # two at most
        self._flush = False

    def call(self, now_ns: int, until_ns: int | None) -> tuple[Step | Nothing, int]:
        if until_ns is not None and now_ns >= until_ns:
            return Nothing.TIMED_OUT, now_ns
        if len(self._in_flight) < 2:
            launched = self._next(max([now_ns, *(step.end_ns for step in self._in_flight)]))
            if launched is not None:
                self._in_flight.append(launched)
                if len(self._in_flight) == 1:
                    return Nothing.FILLED, now_ns
        if not self._in_flight:
            self._flush = False
            return Nothing.FLUSHED, now_ns
        if until_ns is not None and until_ns < self._in_flight[0].end_ns:
            return Nothing.TIMED_OUT, until_ns
        step = self._in_flight.popleft()
        self._flush = not self._in_flight
        return step, step.end_ns

    def has_work(self) -> bool:
        return bool(self._in_flight) or self._flush or self.scheduler.unfinished


def make_stepping(spec: Spec, seed: int) -> Stepping:
    return Pipelined(spec, seed) if spec.pipeline else Stepping(spec, seed)
