"""vLLM's rung async against a double of `AsyncLLM`: tokens come out of generators under a real event loop."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.contract import Nothing, Request
from innerloop.engines.vllm.async_ import UNSEEN, AsyncSession


class Llm:
    """Every running request gets one token whenever `give` is called, all of them together, as from one batch."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.fail_after = fail_after
        self.tick = asyncio.Event()
        self.shut_down = False
        self.names: list[str] = []

    def give(self) -> None:
        self.tick.set()
        self.tick = asyncio.Event()

    async def generate(self, prompt: Any, params: Any, request_id: str) -> Any:
        self.names.append(request_id)
        for k in range(params.max_tokens):
            await self.tick.wait()
            if self.fail_after == k:
                raise RuntimeError("the engine core died")
            yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[prompt[0] + k])])

    def shutdown(self) -> None:
        self.shut_down = True


def rung(llm: Llm) -> AsyncSession:
    return AsyncSession(llm, asyncio.new_event_loop(), lambda n: SimpleNamespace(max_tokens=n), list)


def step(made: AsyncSession) -> Any:
    """The session's next step, in which each request gets one token."""
    made._loop.call_soon(made._engine.give)
    return made.step(None)


def steps(made: AsyncSession, limit: int = 200) -> list[Any]:
    reports = []
    while made.has_work():
        reports.append(step(made))
        assert len(reports) < limit
    return [report for report in reports if not isinstance(report, Nothing)]


def test_what_came_out_together_is_one_step():
    made = rung(Llm())
    for index in (4, 9):
        made.submit(made.prepare(Request(index, [100 * index], 3)))
    reports = steps(made)
    made.close()
    assert [sorted(index for index, _ in report.tokens) for report in reports] == [[4, 9]] * 3
    assert [sorted(report.finished) for report in reports] == [[], [], [4, 9]]
    assert [dict(report.tokens)[4] for report in reports] == [[400], [401], [402]]


def test_tokens_that_came_while_nobody_looked_are_told_once():
    llm = Llm()
    made = rung(llm)
    made.submit(made.prepare(Request(0, [7], 4)))
    first = step(made)

    async def go_on() -> None:
        while made._open:
            llm.give()
            await asyncio.sleep(0)

    made._loop.run_until_complete(go_on())
    second = made.step(None)
    assert not made.has_work()
    made.close()
    assert not isinstance(second, Nothing)
    assert (first.tokens, second.tokens) == ([(0, [7])], [(0, [8, 9, 10])])


def test_a_step_returns_when_the_next_request_is_due():
    made = rung(Llm())
    made.submit(made.prepare(Request(0, [0], 1)))
    due = time.monotonic_ns() + 10_000_000
    assert isinstance(made.step(due), Nothing)
    cut = time.monotonic_ns()
    assert cut >= due
    assert made.has_work()
    report = step(made)
    made.close()
    assert not isinstance(report, Nothing)
    assert report.start_ns < cut <= report.end_ns  # what was cut short is part of the step: no gap while there is work


def test_an_engine_that_dies_is_an_error():
    made = rung(Llm(fail_after=1))
    made.submit(made.prepare(Request(0, [0], 3)))
    with pytest.raises(RuntimeError, match="engine core died"):
        steps(made)
    made.close()


def test_closing_cancels_what_still_runs_and_shuts_the_engine_down():
    llm = Llm()
    made = rung(llm)
    made.submit(made.prepare(Request(0, [0], 3)))
    made.step(time.monotonic_ns() + 1_000_000)
    made.close()
    assert llm.shut_down
    assert made._loop.is_closed()
    assert not made._tasks


def test_what_is_in_another_process_stays_unknown():
    made = rung(Llm())
    made.submit(made.prepare(Request(0, [0], 1)))
    [report] = steps(made)
    made.close()
    assert {getattr(report, name) for name in UNSEEN} == {None}


def test_a_step_without_outputs_ends_at_its_moment_between_two_milliseconds():
    made = rung(Llm())
    made.submit(made.prepare(Request(0, [5], 1)))
    for until_ns in (time.monotonic_ns() + 1_300_000, 5):  # the second has passed
        assert made.step(until_ns) is Nothing.TIMED_OUT
        assert time.monotonic_ns() >= until_ns
    made.close()
