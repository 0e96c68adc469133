from __future__ import annotations

import pytest

from innerloop.engines.profiling.windows import QUIET, SETTLED, Chooser, Seen, Window

PREFILL, DECODE = Seen(prefill=True, running=8), Seen(prefill=False, running=8)


def captured(
    windows: list[Window], steps: list[Seen], batch: tuple[int | None, int | None] = (None, None)
) -> list[int]:
    """The numbers of the steps that were captured."""
    chooser, out = Chooser(windows, batch), []
    for number, step in enumerate(steps):
        if chooser.captures():
            out.append(number)
        chooser.saw(step)
    return out


def test_named_steps_are_captured_and_no_others():
    assert captured([Window(opens=3, counts="any", steps=2)], [DECODE] * 10) == [3, 4]


def test_prefill_is_captured_from_the_start_until_enough_of_it_was_seen():
    steps = [PREFILL, DECODE, PREFILL, PREFILL, PREFILL]
    assert captured([Window(opens="start", counts="prefill", steps=3, most=20)], steps) == [0, 1, 2, 3]


def test_a_prefill_window_does_not_wait_for_prefill_that_does_not_come():
    found = captured([Window(opens="start", counts="prefill", steps=12, most=24)], [PREFILL, *[DECODE] * 30])
    assert found == list(range(1 + QUIET))


def test_decode_is_captured_once_it_has_settled_at_the_usual_batch():
    small = Seen(prefill=False, running=2)
    steps = [PREFILL, *[small] * 10, PREFILL, *[DECODE] * 10]
    found = captured([Window(opens="decode", counts="decode", steps=3)], steps, batch=(8, 8))
    assert found == [12 + SETTLED, 13 + SETTLED, 14 + SETTLED]


def test_prefill_in_between_is_captured_with_decode_but_not_counted():
    steps = [*[DECODE] * SETTLED, DECODE, PREFILL, DECODE, DECODE]
    found = captured([Window(opens="decode", counts="decode", steps=3, most=9)], steps)
    assert found == [SETTLED, SETTLED + 1, SETTLED + 2, SETTLED + 3]


def test_a_window_ends_at_its_most_steps_whatever_it_counted():
    steps = [*[DECODE] * SETTLED, *[PREFILL] * 20]
    assert len(captured([Window(opens="decode", counts="decode", steps=3, most=5)], steps)) == 5


def test_the_full_batch_is_waited_for():
    steps = [Seen(True, 4), *[Seen(False, 7)] * 6, *[Seen(False, 10)] * 8]
    found = captured([Window(opens="full", counts="any", steps=2)], steps, batch=(7, 10))
    assert found == [7 + SETTLED, 8 + SETTLED]


def test_windows_follow_each_other():
    windows = [Window(opens="start", counts="prefill", steps=1), Window(opens="decode", counts="decode", steps=2)]
    chooser = Chooser(windows, (None, None))
    found = []
    for step in [PREFILL, *[DECODE] * 10]:
        if chooser.captures():
            found.append((chooser.index, step.prefill))
        chooser.saw(step)
    assert found == [(0, True), (1, False), (1, False)]
    assert chooser.through


def test_a_window_of_seconds_ends_with_the_step_in_which_they_ran_out(monkeypatch):
    now = iter(range(0, 10**12, 10**9))  # each look at the clock is a second later
    monkeypatch.setattr("innerloop.engines.profiling.windows.time.monotonic_ns", lambda: next(now))
    assert captured([Window(opens="start", counts="any", most_s=3)], [DECODE] * 10) == [0, 1, 2]


@pytest.mark.parametrize("opens", ["decode", "full", 99])
def test_a_window_whose_steps_never_come_stays_closed(opens):
    assert captured([Window(opens=opens, counts="any", steps=3)], [PREFILL] * 20, batch=(8, 99)) == []


def test_a_window_that_is_waited_for_too_long_is_left_out_and_the_next_one_comes(monkeypatch):
    now = iter(range(0, 10**12, 10**9))  # each look at the clock is a second later
    monkeypatch.setattr("innerloop.engines.profiling.windows.time.monotonic_ns", lambda: next(now))
    waiting = Window(opens="decode", counts="decode", steps=3, wait_s=4)
    assert captured([waiting, Window(opens=8, counts="any", steps=2)], [PREFILL] * 20) == [8, 9]
    chooser = Chooser([waiting], (None, None))
    for _ in range(20):
        chooser.captures()
        chooser.saw(PREFILL)
    assert chooser.through
    assert chooser.left_out == [waiting]
