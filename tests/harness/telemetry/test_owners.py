"""Whose processes are on a device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from innerloop.harness.telemetry.owners import Owners, Process, process_name

NOBODY = 1 << 22  # above the kernel's largest process number


@pytest.fixture
def child() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    yield process.pid
    process.communicate(b"\n")


def test_the_workers_tree_is_told_from_others(child: int) -> None:
    owners = Owners()
    owners.follow(child)
    held = owners.look([Process(child, 100), Process(os.getpid(), 7), Process(NOBODY, 5)], 1000)
    assert held == 100
    by_pid = {one.pid: one for one in owners.seen()}
    assert {pid: one.own for pid, one in by_pid.items()} == {child: True, os.getpid(): False, NOBODY: False}
    assert str(by_pid[child].name).startswith("python")
    assert by_pid[NOBODY].name is None
    owners.close()


def test_each_process_has_its_first_and_last_time_and_its_peak() -> None:
    owners = Owners()
    owners.look([Process(NOBODY, 5)], 1000)
    owners.look([Process(NOBODY, 9)], 2000)
    owners.look([Process(NOBODY, 3)], 3000)
    owners.look([], 4000)
    [one] = owners.seen()
    assert (one.first_ns, one.last_ns, one.peak_bytes) == (1000, 3000, 9)


def test_a_process_becomes_the_workers_once_the_worker_is_named(child: int) -> None:
    owners = Owners()
    assert owners.look([Process(child, 100)], 1) == -1
    owners.follow(child)
    assert owners.look([Process(child, 100)], 2) == 100
    assert owners.seen()[0].own
    owners.close()


def test_memory_that_the_driver_does_not_tell_is_unknown(child: int) -> None:
    owners = Owners()
    owners.follow(child)
    assert owners.look([Process(child, None)], 1) == -1
    assert owners.look([Process(child, None), Process(NOBODY, 8)], 1) == -1
    assert owners.look([], 2) == -1
    owners.close()


def test_a_number_that_is_nobodys_has_no_name() -> None:
    assert process_name(NOBODY) is None
    assert process_name(os.getpid())
