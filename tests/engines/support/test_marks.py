"""Ranges around the parts of a step."""

from collections.abc import Iterator

import pytest

from innerloop.engines.support import marks


@pytest.fixture
def heard() -> Iterator[list[str]]:
    out: list[str] = []
    marks.turn_on(out.append, lambda: out.append("."))
    yield out
    marks.turn_off()


def test_while_marks_are_off_a_call_is_not_wrapped() -> None:
    assert marks.ranged("schedule", len) is len


def test_a_range_surrounds_the_call_and_passes_arguments_and_result(heard: list[str]) -> None:
    def work(a: int, *, b: int) -> int:
        heard.append("work")
        return a + b

    inner = marks.ranged("execute", work)
    outer = marks.ranged("step", lambda: inner(1, b=2))
    assert outer() == 3
    assert heard == ["step", "execute", "work", ".", "."]


def test_a_name_may_be_made_at_each_call(heard: list[str]) -> None:
    names = iter(("first", "second"))
    call = marks.ranged(lambda: next(names), lambda: None)
    call()
    call()
    assert heard == ["first", ".", "second", "."]


def test_a_range_ends_also_when_the_call_raises(heard: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        marks.ranged("sample", lambda: 1 // 0)()
    assert heard == ["sample", "."]
