from __future__ import annotations

from innerloop.harness.cli import slowly
from tests.waiting import Clock


def test_what_takes_over_two_seconds_is_said_then_and_every_ten_seconds(monkeypatch):
    clock = Clock(0)
    monkeypatch.setattr(slowly, "time", clock)
    monkeypatch.setattr(slowly, "FIRST_S", 2.0)
    said: list[str] = []
    doing = slowly.Slowly(said.append)
    for second in range(23):
        clock.now_ns = second * 1_000_000_000
        doing.tick("reading", " (once)")
    assert said == ["reading: 2 s (once)", "reading: 12 s", "reading: 22 s"]
