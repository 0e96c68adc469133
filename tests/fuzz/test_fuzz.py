"""A few inputs of every target; `python -m tests.fuzz` tries as many as one likes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.__main__ import one, prepared
from tests.fuzz.targets import TARGETS
from tests.fuzz.watch import called

INPUTS = 12
FOUND = {  # inputs of seed 1 that once ended in a traceback
    "arguments": (84, 294, 1388, 1625),
    "experiments": (841,),
    "results": (325, 777, 1452, 1752, 1930),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_damaged_input_is_read_or_refused_in_one_line(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNERLOOP_HOME", "")  # restored afterwards
    box = prepared(target, tmp_path)
    seen = {number: one(target, 1, number, box).faults for number in (*range(INPUTS), *FOUND.get(target, ()))}
    slow = ("slow", "stuck")  # a busy machine is no fault of the input's
    assert {k: [f for f in faults if not f.startswith(slow)] for k, faults in seen.items() if faults} == {}


def raising() -> int:
    raise KeyError("x")


def elsewhere() -> int:
    path = Path(__file__).parent / "written"
    path.write_text("x")
    path.unlink()
    return 0


def acting() -> int:
    print("\x1b[31mred")
    return 0


def slow() -> int:
    begun = time.process_time()
    while time.process_time() < begun + 0.2:
        pass
    return 0


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        (raising, "traceback: ? KeyError"),
        (elsewhere, "wrote elsewhere"),
        (acting, "printed ['\\x1b']"),
        (slow, "slow: "),
        (lambda: 1, "exit code 1"),
        (lambda: 0, "memory: "),
    ],
)
def test_what_an_input_must_not_do_is_seen(
    work: Callable[[], int], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fuzz.watch.SLOW_S", 0.1)
    monkeypatch.setattr("tests.fuzz.watch.MOST_BYTES", -1 if fault == "memory: " else 1 << 40)
    faults = called(work, tmp_path).faults
    assert [one for one in faults if one.startswith(fault)], faults


def test_a_right_input_is_no_fault(tmp_path: Path) -> None:
    def right() -> int:
        (tmp_path / "own").write_text("x")
        print("two\tlines\nof text")
        return 2

    seen = called(right, tmp_path)
    assert (seen.code, seen.faults) == (2, ())
    assert os.listdir(tmp_path) == ["own"]
