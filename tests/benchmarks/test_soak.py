"""The soak's own parts: what it plans, what it sees, and one pair of each kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import left
from benchmarks.soak.kills import MOMENTS, SCRIPTED, WHO, before_anything, planned
from benchmarks.soak.pairs import Pairs
from benchmarks.soak.tally import Tally
from tests.real import ROOT
from tests.waiting import until


def test_the_same_seed_plans_the_same_kills() -> None:
    first = planned(200, 7, [SCRIPTED])
    assert first == planned(200, 7, [SCRIPTED])
    assert first != planned(200, 8, [SCRIPTED])
    assert {one.who for one in first} == set(WHO)
    assert {one.sent.name for one in first} == {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"}
    assert {one.moment for one in first} == {*MOMENTS}


def test_shared_memory_of_a_process_that_had_the_number_before_is_not_its_own(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(left, "SHARED_MEMORY", str(tmp_path))
    for name, written_s in (("__KMP_REGISTERED_LIB_12_0", 100), ("__KMP_REGISTERED_LIB_13_0", 200), ("psm_14", 200)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (written_s, written_s))
    assert left.shared_memory_of({12, 13}, 150) == ["__KMP_REGISTERED_LIB_13_0"]


def test_a_process_that_is_left_is_found_by_its_mark_and_killed(monkeypatch) -> None:
    monkeypatch.setattr(left, "GONE_S", 0.2)
    mark = left.new_mark()
    sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(sleeper, env={**os.environ, left.MARK: mark}, start_new_session=True)
    until(lambda: left.marked(mark) == [process.pid])
    [line] = left.left_of(mark)
    assert "time.sleep(600)" in line
    assert process.wait() == -9
    assert left.left_of(mark) == []


def test_a_traceback_of_pythons_own_start_is_told_from_one_of_ours() -> None:
    own = f'Traceback (most recent call last):\n  File "{ROOT}/harness/run.py", line 1\nKeyboardInterrupt\n'
    assert not before_anything(own)
    assert before_anything('Traceback (most recent call last):\n  File "<frozen site>", line 1\nKeyboardInterrupt\n')


@pytest.mark.slow
def test_of_a_pair_each_has_a_folder_of_its_own_or_one_is_refused(tmp_path: Path) -> None:
    tally = Tally()
    done: list[Any] = []
    Pairs(tmp_path, tally).carry_out(1, done.append)
    assert tally.found == {}
    assert tally.seen["default folder: whole results"] == 2
    assert tally.seen["same --out: whole results"] == 1
    assert tally.seen["same --out: refused in one line"] == 1
    assert done == [1]
