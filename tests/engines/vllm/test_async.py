"""vLLM's rung async against a double of `AsyncLLM`: tokens come out of generators under a real event loop."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.contract import Request
from innerloop.engines.vllm.async_ import UNSEEN, AsyncRung


class Llm:
    """Every running request gets one token whenever `step_s` has gone by, all of them together, as from one batch."""

    def __init__(self, step_s: float = 0.005, fail_after: int | None = None) -> None:
        self.step_s, self.fail_after = step_s, fail_after
        self.tick: asyncio.Event | None = None
        self.shut_down = False
        self.names: list[str] = []

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(self.step_s)
            assert self.tick is not None
            self.tick.set()
            self.tick = asyncio.Event()

    async def generate(self, prompt: Any, params: Any, request_id: str) -> Any:
        self.names.append(request_id)
        if self.tick is None:
            self.tick = asyncio.Event()
            self._ticker = asyncio.get_running_loop().create_task(self._ticking())
        for k in range(params.max_tokens):
            await self.tick.wait()
            if self.fail_after == k:
                raise RuntimeError("the engine core died")
            yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[prompt[0] + k])])

    def shutdown(self) -> None:
        self.shut_down = True
        if self.tick is not None:
            self._ticker.cancel()


def rung(llm: Llm) -> AsyncRung:
    made = AsyncRung()
    made.attach(llm, asyncio.new_event_loop(), lambda n: SimpleNamespace(max_tokens=n), list)
    return made


def steps(made: AsyncRung, limit: int = 200) -> list[Any]:
    reports = []
    while made.has_work():
        reports.append(made.step())
        assert len(reports) < limit
    return [report for report in reports if report is not None]


def test_what_came_out_together_is_one_step():
    made = rung(Llm())
    for index in (4, 9):
        made.submit(Request(index, [100 * index], 3))
    reports = steps(made)
    made.close()
    assert [sorted(index for index, _ in report.tokens) for report in reports] == [[4, 9]] * 3
    assert [sorted(report.finished) for report in reports] == [[], [], [4, 9]]
    assert [dict(report.tokens)[4] for report in reports] == [[400], [401], [402]]


def test_tokens_that_came_while_nobody_looked_are_told_once():
    made = rung(Llm(step_s=0.001))
    made.submit(Request(0, [7], 4))
    first = made.step()
    made._loop.run_until_complete(asyncio.sleep(0.05))
    reports = [first, *steps(made)]
    made.close()
    assert len(reports) == 2
    assert [i for report in reports for _, ids in report.tokens for i in ids] == [7, 8, 9, 10]


def test_a_step_returns_when_the_next_request_is_due():
    made = rung(Llm(step_s=0.2))
    made.submit(Request(0, [0], 1))
    due = time.monotonic_ns() + 10_000_000
    assert made.step(due) is None
    assert time.monotonic_ns() >= due
    assert made.has_work()
    report = made.step()
    made.close()
    assert report is not None
    assert report.start_ns < due <= report.end_ns  # what was cut short is part of the step: no gap while there is work


def test_an_engine_that_dies_is_an_error():
    made = rung(Llm(fail_after=1))
    made.submit(Request(0, [0], 3))
    with pytest.raises(RuntimeError, match="engine core died"):
        steps(made)
    made.close()


def test_closing_cancels_what_still_runs_and_shuts_the_engine_down():
    llm = Llm(step_s=5.0)
    made = rung(llm)
    made.submit(Request(0, [0], 3))
    made.step(time.monotonic_ns() + 1_000_000)
    made.close()
    assert llm.shut_down
    assert made._loop.is_closed()
    assert not made._tasks


def test_what_is_in_another_process_stays_unknown():
    made = rung(Llm())
    made.submit(Request(0, [0], 1))
    [report] = steps(made)
    made.close()
    assert {getattr(report, name) for name in UNSEEN} == {None}
