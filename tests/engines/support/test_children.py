from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.engines.support.children import Child, ChildFailed, ChildKilled
from tests.waiting import PATIENCE_S, gone, until

ROOT = Path(__file__).parents[3]

# A process whose child is a null server, told on stdout; it then waits to be killed.
PARENT = f"""
import sys, time
sys.path.insert(0, sys.argv[1])
from innerloop.engines.support.children import Child, ChildFailed, ChildKilled
child = Child("http.null", "")
print(child.process.pid, child.ready({PATIENCE_S}), flush=True)
time.sleep(600)
"""


def test_a_child_says_that_it_is_ready_and_ends_when_told():
    child = Child("http.null", "")
    assert int(child.ready(PATIENCE_S)) > 0
    assert child.process.poll() is None
    child.end()
    assert child.process.returncode is not None
    child.end()  # once more does no harm


def test_a_child_can_be_ended_before_it_is_ready():
    child = Child("http.null", "")
    child.end()
    assert child.process.returncode is not None


def test_how_a_child_ended_is_told_apart():
    child = Child("http.null", "")
    child.ready(PATIENCE_S)
    assert child.ended("it") is None
    assert child.ended("it", 0.01) is None
    child.process.send_signal(signal.SIGKILL)
    killed = child.ended("it", PATIENCE_S)
    assert isinstance(killed, ChildKilled)
    assert str(killed) == "it was killed by SIGKILL"
    child.end()


@pytest.mark.parametrize(
    ("module", "kind", "words"),
    [
        ("no_such_module", ChildFailed, "engines.no_such_module exited with code 1; read the end of the log"),
        ("http.null", ChildKilled, "engines.http.null was killed by SIGKILL; read the end of the log"),
    ],
)
def test_a_child_that_ends_before_it_is_ready_says_how(module, kind, words):
    child = Child(module, "")
    if kind is ChildKilled:
        child.process.send_signal(signal.SIGSTOP)
        child.process.send_signal(signal.SIGKILL)
    with pytest.raises(kind, match=words):
        child.ready(PATIENCE_S)


def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    child = Child("http.null", "")
    child.ready(PATIENCE_S)
    child.end()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_does_not_outlive_a_parent_that_was_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(ROOT)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, _ = map(int, parent.stdout.readline().split())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: gone(pid))
