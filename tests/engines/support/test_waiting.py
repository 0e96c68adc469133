from __future__ import annotations

import asyncio
import selectors
import time

import pytest

from innerloop.engines.support import waiting
from innerloop.engines.support.waiting import SPIN_NS, LoopTimer, Timer, seconds_left, sleep_until
from tests.waiting import Clock


def test_without_anything_due_a_step_waits_its_usual_time():
    assert seconds_left(None) == 0.1
    assert seconds_left(None, 0.002) == 0.002


def test_what_is_due_sooner_shortens_the_wait_and_what_is_overdue_ends_it(monkeypatch):
    now = 10**12
    monkeypatch.setattr(waiting, "time", Clock(now))
    assert seconds_left(now + 10**12) == 0.1
    assert seconds_left(now + 20_000_000) == pytest.approx(0.02)
    assert seconds_left(now - 5) == 0.0


def test_a_timer_is_readable_from_its_moment_on_and_until_it_is_cleared():
    timer = Timer()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(timer, selectors.EVENT_READ)
            assert not selector.select(0)
            moment = time.monotonic_ns() + 3_300_000  # between two milliseconds
            timer.arm(moment)
            assert selector.select(60)
            assert time.monotonic_ns() >= moment - SPIN_NS
            timer.clear()
            assert not selector.select(0)
            timer.arm(moment)  # which has passed
            assert selector.select(60)
            timer.arm(None)
            assert not selector.select(0)
    finally:
        timer.close()


def test_a_sleep_ends_at_its_moment_and_shows_life_on_the_way(monkeypatch):
    clock = Clock(0)
    beats: list[int] = []
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(waiting, "SPIN_NS", 0)
    sleep_until(50_000_000, beats.append)
    assert clock.now_ns == 50_000_000
    assert beats == [0, 20_000_000, 40_000_000]


def test_an_event_loop_is_woken_at_its_moment_and_not_at_one_that_was_taken_back():
    loop, woken = asyncio.new_event_loop(), []

    def wake() -> None:
        woken.append(time.monotonic_ns())
        loop.stop()

    timer = LoopTimer(loop, wake)
    try:
        timer.arm(5)  # long past, and taken back before the loop runs
        moment = time.monotonic_ns() + 2_700_000
        timer.arm(moment)
        loop.run_forever()
        assert len(woken) == 1
        assert woken[0] >= moment
    finally:
        timer.close()
        loop.close()
