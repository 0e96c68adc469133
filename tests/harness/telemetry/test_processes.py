"""A process and all its descendants, read from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from innerloop.harness.telemetry.processes import Stat, Tree

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

SLEEP = "import time; print(flush=True); time.sleep(60)"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.readline()
child.kill(); child.wait()
print("gone", flush=True)
sys.stdin.readline()
"""
ORPHAN = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
"""
THREADS = """
import threading, time
threads = [threading.Thread(target=lambda: [time.sleep(0.001) for _ in range(99)]) for _ in range(4)]
for thread in threads: thread.start()
print(flush=True)
for thread in threads: thread.join()
print("end", flush=True)
input()
"""
BUSY = """
import time
end = time.process_time() + 0.3
while time.process_time() < end: pass
print(flush=True)
input()
"""


@pytest.fixture
def spawn() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


@pytest.fixture
def tree_of() -> Iterator[Callable[[int], Tree]]:
    made: list[Tree] = []

    def make(pid: int) -> Tree:
        made.append(Tree(pid))
        return made[-1]

    yield make
    for tree in made:
        tree.close()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_stat_is_read_behind_a_name_with_spaces_and_parentheses() -> None:
    # pid (name) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime
    # priority nice threads itrealvalue starttime vsize rss
    text = b"7 (a) R b(c) S 3 4 5 0 -1 64 100 0 9 0 250 50 0 0 20 0 6 0 12345 999 42 18446744073709551615 1 1\n"
    assert Stat.parse(text) == Stat(True, 3, 5, (250, 50, 9), 6, 42)
    assert not Stat.parse(text.replace(b") S", b") Z")).alive


def test_children_come_and_go(spawn: Callable, tree_of: Callable) -> None:
    process = spawn(PARENT)
    line(process)
    tree = tree_of(process.pid)
    both = tree.usage()
    assert both.processes == 2
    assert both.threads >= 2
    assert both.rss_bytes > 2 << 20
    tell(process)
    assert line(process) == "gone"
    one = tree.usage()
    assert one.processes == 1
    assert one.rss_bytes < both.rss_bytes


def test_an_orphan_of_the_roots_session_still_belongs(spawn: Callable, tree_of: Callable) -> None:
    process = spawn(ORPHAN)
    line(process)
    process.wait()
    assert tree_of(process.pid).usage().processes == 1


def test_what_a_process_used_stays_counted_after_its_end(spawn: Callable, tree_of: Callable) -> None:
    process = spawn(BUSY)
    tree = tree_of(process.pid)
    at_first = tree.usage()
    line(process)
    usage = tree.usage()
    used = usage.user_s + usage.system_s
    assert used >= at_first.user_s + at_first.system_s
    assert used > 0.2
    process.communicate("\n")
    after = tree.usage()
    assert after.user_s + after.system_s >= used
    assert (after.processes, after.rss_bytes) == (0, 0)


def test_everyone_elses_processes_are_left_out(spawn: Callable, tree_of: Callable) -> None:
    mine, other = spawn(PARENT), spawn(PARENT)
    line(mine), line(other)
    assert tree_of(mine.pid).usage().processes == 2


def test_context_switches_are_of_all_threads_and_never_fall(spawn: Callable, tree_of: Callable) -> None:
    process = spawn(THREADS)
    line(process)
    tree = tree_of(process.pid)
    tree.usage()
    first = tree.switches()
    assert line(process) == "end"
    second = tree.switches()
    assert second[0] >= first[0] > 0
    assert second[1] >= first[1]


def test_a_root_that_is_not_there_is_an_empty_tree(spawn: Callable, tree_of: Callable) -> None:
    process = spawn("pass")
    process.wait()
    process.communicate()
    usage = tree_of(process.pid).usage()
    assert (usage.processes, usage.user_s, usage.rss_bytes) == (0, 0, 0)


def test_no_file_stays_open(spawn: Callable) -> None:
    process = spawn(PARENT)
    line(process)
    before = len(os.listdir("/proc/self/fd"))
    tree = Tree(process.pid)
    tree.usage()
    tree.switches()
    tree.close()
    assert len(os.listdir("/proc/self/fd")) == before
