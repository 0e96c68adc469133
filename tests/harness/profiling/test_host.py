from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.profiling import host
from innerloop.harness.profiling.flame import flame_graph
from innerloop.harness.schema.profiling import FunctionShare, HostProfile, ThreadShare
from tests.real import variables
from tests.waiting import PATIENCE_S, gone, until

SPIN = "def spin():\n    print('spins', flush=True)\n    while True: sum(range(1000))\nspin()\n"


@pytest.fixture
def spinning():
    """A Python process that computes, and no longer starts."""
    process = subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"spins\n"
    yield process
    process.kill()
    process.communicate()


def sampled(pid: int, folder: Path, seconds: float) -> HostProfile | None:
    """What py-spy found in so many seconds; None where it got to see nothing."""
    sampling = host.Sampling(pid, folder)
    until(lambda: "Sampling process" in (folder / host.LOG).read_text())
    time.sleep(seconds)
    sampling.stop()
    try:
        return sampling.found()
    except InnerloopError as error:
        if "before py-spy took a sample;" not in str(error):
            raise
        return None


def test_a_process_is_looked_at_until_it_is_said_to_be_enough(tmp_path, spinning, monkeypatch):
    monkeypatch.setattr(host, "END_S", PATIENCE_S)
    tries = (sampled(spinning.pid, tmp_path, seconds) for seconds in (0.5, 5, 50))
    found = next(one for one in tries if one is not None)
    assert found.samples
    assert found.rate_hz == host.RATE_HZ
    assert found.top[0].name.startswith("spin")
    assert spinning.poll() is None  # it is left alone
    assert "spin" in (tmp_path / host.GRAPH).read_text()


def test_a_process_that_is_gone_is_an_error_in_words(tmp_path):
    sampling = host.Sampling(2**22 + 12345, tmp_path)
    sampling.stop()
    with pytest.raises(InnerloopError, match="py-spy could not read"):
        sampling.found()


def test_py_spy_ends_with_a_harness_that_is_killed(tmp_path, spinning):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom harness.profiling.host import Sampling\n"
        f"s = Sampling({spinning.pid}, Path({str(tmp_path)!r}))\nprint(s._process.pid, flush=True)\ntime.sleep(600)\n"
    )
    harness = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=variables())
    try:
        assert harness.stdout is not None
        pid = int(harness.stdout.readline())
        until(lambda: "Sampling process" in (tmp_path / host.LOG).read_text())
    finally:
        os.kill(harness.pid, signal.SIGKILL)
        harness.communicate()
    until(lambda: gone(pid))


def test_without_py_spy_a_host_profile_is_refused(monkeypatch):
    monkeypatch.setattr(host, "py_spy", lambda: None)
    with pytest.raises(Refused, match="py-spy"):
        host.require_py_spy()


def test_a_refusal_by_the_kernel_is_explained():
    said = "Error: Permission Denied: Try running again with elevated permissions by going 'sudo env \"PATH=$PATH\" !!'"
    assert "--cap-add SYS_PTRACE" in host.trouble(said)
    assert "ptrace_scope" in host.trouble(said)
    assert host.trouble("") == "py-spy could not read the worker: it printed nothing"


STACKS = """\
thread (7): MainThread;main (a.py);step (a.py);schedule (b.py) 6
thread (7): MainThread;main (a.py);step (a.py) 2
thread (9): tqdm_monitor;wait (threading.py) 12
no count here
"""


def test_lateness_is_what_py_spy_says_of_it():
    said = (
        "py-spy> Sampling process 100 times a second. Press Control-C to exit.\n"
        "py-spy> 1.02s behind in sampling, results may be inaccurate. Try reducing the sampling rate\n"
        "py-spy> 3.86s behind in sampling, results may be inaccurate. Try reducing the sampling rate\n"
        "py-spy> Wrote raw flamegraph data to 'x'. Samples: 2050 Errors: 3\n"
    )
    found = host.profile(host.parse(STACKS), said)
    assert (found.samples, found.errors, found.behind_s) == (2050, 3, 3.86)
    silent = host.profile(host.parse(STACKS), "")
    assert (silent.samples, silent.errors, silent.behind_s) == (None, None, 0.0)


def test_functions_are_those_of_the_thread_that_steps():
    found = host.profile(host.parse(STACKS), "")
    assert found.threads == (
        ThreadShare("thread (9): tqdm_monitor", 0.6),
        ThreadShare("thread (7): MainThread", 0.4),
    )
    assert found.top == (
        FunctionShare("schedule (b.py)", self_share=0.75, total_share=0.75),
        FunctionShare("step (a.py)", self_share=0.25, total_share=1.0),
    )


def test_a_flame_graph_is_as_wide_as_what_it_shows():
    counts: Counter[tuple[str, ...]] = Counter({("main", "a<b>"): 3, ("main", "c"): 1})
    root = ET.fromstring(flame_graph(counts, "samples"))
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in root.iter(f"{space}title")]
    assert titles == [
        "all: 4 samples, 100.0%",
        "main: 4 samples, 100.0%",
        "a<b>: 3 samples, 75.0%",
        "c: 1 samples, 25.0%",
    ]
    boxes = [group.find(f"{space}rect") for group in root.iter(f"{space}g")]
    assert [float(box.attrib["width"]) for box in boxes if box is not None] == [1200.0, 1200.0, 900.0, 300.0]
    assert [float(box.attrib["x"]) for box in boxes if box is not None] == [0.0, 0.0, 0.0, 900.0]


def test_boxes_too_narrow_to_be_seen_are_left_out():
    counts: Counter[tuple[str, ...]] = Counter({("main", "often"): 100_000, ("main", "once"): 1})
    assert "once" not in flame_graph(counts, "samples")


def test_its_command_line_is_this():
    assert host.command(42, Path("/run/profile-host")) == [
        "py-spy", "record", "--pid=42", "--rate=100", "--format=raw", "--threads", "--nolineno",
        "--output=/run/profile-host/stacks.txt",
    ]  # fmt: skip


def test_threads_that_only_wait_are_left_out():
    """As py-spy names them under Python 3.11: qualified, so that it takes them for work."""
    raw = (
        "thread (2): tqdm;TMonitor.run (tqdm/_monitor.py);Event.wait (threading.py);Condition.wait (threading.py) 9\n"
        "thread (1): MainThread;EpollSelector.select (selectors.py) 4\n"
        "thread (1): MainThread;Scheduler.schedule (vllm/v1/core/sched/scheduler.py) 3\n"
    )
    assert host.parse(raw) == {("thread (1): MainThread", "Scheduler.schedule (vllm/v1/core/sched/scheduler.py)"): 3}
