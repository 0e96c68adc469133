from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from innerloop.engines.support.children import Child
from tests.waiting import PATIENCE_S, gone, until

ROOT = Path(__file__).parents[3]

# A process whose child is a null server, told on stdout; it then waits to be killed.
PARENT = f"""
import sys, time
sys.path.insert(0, sys.argv[1])
from innerloop.engines.support.children import Child
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
