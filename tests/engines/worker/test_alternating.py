"""Bare and recorded steps in turn, on an engine that is a clock: what is paired with what, and what is in each time."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from innerloop.engines.contract import Bare, EngineInfo, Session, StepReport
from innerloop.engines.worker import alternating
from innerloop.engines.worker.alternating import Alternating
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.work import Work

OUTPUT = (12, 12, 30)  # two requests end together: the batch shrinks once
BARE_NS, WRAPPED_NS, REPORT_NS, RECORDER_NS = 1000, 1100, 7, 50


class Clock:
    now = 0

    def monotonic_ns(self) -> int:
        return self.now


class Engine(Session):
    """Takes 1000 ns a step, 1100 through its wrappers; the first step is the prefill."""

    info = EngineInfo("1")

    def __init__(self, clock: Clock) -> None:
        self.clock, self.wrapped = clock, True
        self.left: dict[int, int] = {}
        self.kinds: list[str] = []

    def submit(self, prepared) -> None:
        self.left[prepared.id] = prepared.output_tokens

    def close(self) -> None:
        pass

    def has_work(self) -> bool:
        return bool(self.left)

    def compute(self) -> list[int]:
        self.clock.now += WRAPPED_NS if self.wrapped else BARE_NS
        self.kinds.append("recorded" if self.wrapped else "bare")
        return list(self.left)

    def collect(self, requests):
        self.clock.now += REPORT_NS
        finished = [i for i in requests if self.left[i] == 1]
        self.left = {i: n - 1 for i, n in self.left.items() if n > 1}
        return [(i, [5]) for i in requests], finished

    def step(self, until_ns: int | None) -> StepReport:
        first = not self.kinds
        begun = self.clock.now
        requests = self.compute()
        end = self.clock.now
        tokens, finished = self.collect(requests)
        return StepReport(begun, end, tokens, finished, prefill_tokens=9 if first else 0)

    @contextmanager
    def unwrapped(self):
        self.wrapped = False
        yield
        self.wrapped = True


class Recorder:
    """Takes 50 ns a step."""

    def __init__(self, clock: Clock, left: list[int]) -> None:
        self.clock, self.left = clock, left

    def step(self, report: StepReport) -> list[int]:
        self.clock.now += RECORDER_NS
        for index, ids in report.tokens:
            self.left[index] -= len(ids)
        return list(report.finished)

    def __getattr__(self, name):
        return lambda *_: None


def test_pairs_are_neighbours_of_one_kind_each_and_of_equal_batches(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(alternating, "time", clock)
    engine: Any = Engine(clock)
    recorder: Any = Recorder(clock, list(OUTPUT))
    three = np.full(3, -1)
    work = Work(
        prompt_tokens=np.zeros(3, np.int32), prompt_offsets=np.arange(4), output_lens=np.array(OUTPUT, np.int32),
        due_ns=np.zeros(3, np.int64), next_request=three, user=three, rest_ns=0, duration_ns=-1,
    )  # fmt: skip
    turns: Any = Alternating(engine, Bare(engine.compute, engine.collect, engine.unwrapped))
    drive(turns, work, recorder)

    assert recorder.left == [0, 0, 0]
    assert len(engine.kinds) == 30
    assert engine.kinds[0] == "recorded"
    # A recorded step has its wrappers, its report and the recorder in it; a bare one the engine alone.
    assert set(turns.pairs) == {(BARE_NS, WRAPPED_NS + REPORT_NS + RECORDER_NS)}
    # 28 decode steps follow the first, which has none before it to be compared with; one more may be left over where
    # the batch shrinks, and one at the end, which the loop does not ask to follow.
    assert 12 <= len(turns.pairs) <= 14
    neighbours = set(pairwise(engine.kinds[2:]))
    assert {("bare", "recorded"), ("recorded", "bare")} <= neighbours


class Queued(Engine):
    """Always has requests that wait."""

    def step(self, until_ns: int | None) -> StepReport:
        return StepReport(0, 1, [(0, [5])], prefill_tokens=0, waiting=1)


def test_no_step_is_bare_while_requests_wait_whose_prompts_may_come_next():
    engine: Any = Queued(Clock())
    turns = Alternating(engine, Bare(engine.compute, engine.collect, engine.unwrapped))
    for _ in range(50):
        turns.step(None)
    assert turns.pairs == engine.kinds == []
