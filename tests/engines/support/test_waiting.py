from __future__ import annotations

import time

from innerloop.engines.support.waiting import seconds_left


def test_without_anything_due_a_step_waits_its_usual_time():
    assert seconds_left(None) == 0.1
    assert seconds_left(None, 0.002) == 0.002


def test_what_is_due_sooner_shortens_the_wait_and_what_is_overdue_ends_it():
    now = time.monotonic_ns()
    assert seconds_left(now + 10**12) == 0.1
    assert 0.0 <= seconds_left(now + 20_000_000) <= 0.02
    assert seconds_left(now - 5) == 0.0
