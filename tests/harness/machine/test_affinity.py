from __future__ import annotations

import os
import subprocess
import sys

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.machine.affinity import parse_cpus, running_on, started_on

MINE = sorted(os.sched_getaffinity(0))


def test_a_list_is_read_as_the_kernel_writes_it(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    assert parse_cpus("8, 0-3,2", "--cpus") == (0, 1, 2, 3, 8)
    with pytest.raises(Refused, match="--cpus 11-12: this process may not run on CPU 12"):
        parse_cpus("11-12", "--cpus")


@pytest.mark.parametrize("text", ["", "a", "3-1", "-2", "1-", "0,,1", "1-2-3"])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(Refused, match="use a list of CPUs such as 0-3,8"):
        parse_cpus(text, "--cpus")


def test_what_is_started_meanwhile_runs_there_and_this_process_does_not():
    with started_on((MINE[-1],)):
        child = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
        said = subprocess.run(child, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str([MINE[-1]])
    assert sorted(os.sched_getaffinity(0)) == MINE


def test_this_process_runs_there_meanwhile_only():
    with running_on((MINE[0],)):
        assert sorted(os.sched_getaffinity(0)) == [MINE[0]]
    assert sorted(os.sched_getaffinity(0)) == MINE
    with running_on(None):
        assert sorted(os.sched_getaffinity(0)) == MINE
