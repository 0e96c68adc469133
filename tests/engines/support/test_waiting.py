from __future__ import annotations

import pytest

from innerloop.engines.support import waiting
from innerloop.engines.support.waiting import seconds_left
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
