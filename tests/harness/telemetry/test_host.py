"""The host while the engine steps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.host import summary
from innerloop.harness.telemetry import host as module
from innerloop.harness.telemetry import processes
from innerloop.harness.telemetry.host import HostSampler
from innerloop.harness.telemetry.processes import Tree
from tests.waiting import until

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


BUSY = """
import time
block = bytearray(64 << 20)
input()
end = time.process_time() + 0.5
while time.process_time() < end: sum(range(100_000))
print(flush=True)
input()
"""


@linux
def test_a_busy_process_is_seen_at_work() -> None:
    sampler = HostSampler(0.05)
    begun, pipe = time.monotonic_ns(), subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        sampler.start(process.pid)
        until(lambda: len(sampler._rows) > 0)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        found = sampler.stop()
        host = summary(found, begun, time.monotonic_ns())
        process.kill()
    assert found.error is None
    assert host is not None
    assert (host.worker_user_s or 0) > 0.2
    assert (host.worker_rss_peak_bytes or 0) > 64 << 20
    assert host.worker_processes_max == 1
    assert host.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert 0 < (host.busy_share or 0) <= 1
    counters = ("worker_user_s", "worker_system_s", "machine_busy_s", "harness_cpu_s")
    assert all((np.diff(found.table[name]) >= 0).all() for name in counters)


@linux
def test_the_first_and_the_last_sample_have_context_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    still = SimpleNamespace(monotonic=lambda: 5.0, process_time=time.process_time)
    monkeypatch.setattr(module, "time", still)  # so that none is due in between
    sampler = HostSampler(0.01)
    sampler.start(os.getpid())
    until(lambda: len(sampler._rows) >= 3)
    table: Any = sampler.stop().table
    assert table["worker_voluntary_switches"][[0, -1]].min() >= 0
    assert set(table["worker_voluntary_switches"][1:-1].tolist()) == {-1}


@linux
@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        (b"cpu  100 10 30 500 7 2 1 9 0 0\n", (1.43, 5.0, 0.07, 0.09)),
        (b"cpu  100 10 30 500 7\n", (1.4, 5.0, 0.07, None)),  # as of an old kernel, or a sandbox
        (b"", (None, None, None, None)),
    ],
)
def test_counters_that_a_kernel_has_not_are_missing(
    monkeypatch: pytest.MonkeyPatch, stat: bytes, expected: tuple[float | None, ...]
) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.01)
    sampler = HostSampler()
    monkeypatch.setattr(sampler, "_start_of", lambda name, length: stat if name == "stat" else b"")
    monkeypatch.setattr(Tree, "switches", lambda tree: (-1, -1))
    sampler.open(os.getpid())
    row = np.array([(0, 0, *sampler.read())], dtype=module.HOST)[0]
    sampler.close()
    names = ("machine_busy_s", "machine_idle_s", "machine_iowait_s", "machine_steal_s")
    assert [None if np.isnan(row[name]) else pytest.approx(row[name]) for name in names] == list(expected)
    assert [int(row[name]) for name in ("swap_in_bytes", "swap_out_bytes", "available_bytes")] == [-1, -1, -1]


@linux
def test_context_switches_that_no_thread_tells_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_read_switches", lambda path: None)
    tree = Tree(os.getpid())
    tree.usage()
    assert tree.switches() == (-1, -1)
    tree.close()


@linux
def test_no_file_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    sampler = HostSampler(0.01)
    sampler.start(os.getpid())
    sampler.stop()
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_system_is_said_to_have_no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerloop.harness.telemetry.host.sys.platform", "darwin")
    sampler = HostSampler()
    sampler.start(1)
    assert sampler._thread is not None
    sampler._thread.join()
    found = sampler.stop()
    assert found.error is not None
    assert "darwin" in found.error
    assert summary(found, 0, 10**9) is None


@linux
@pytest.mark.parametrize("loadavg", [None, ""])
def test_processes_are_found_where_the_kernel_does_not_say_that_there_are_new_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loadavg: str | None
) -> None:
    """As in a sandbox without /proc/loadavg, or with an empty one."""
    real = processes._opened
    if loadavg is not None:
        (tmp_path / "loadavg").write_text(loadavg)
    there = str(tmp_path / "loadavg")
    monkeypatch.setattr(processes, "_opened", lambda path: real(there if path == "/proc/loadavg" else path))
    tree = Tree(os.getpid())
    before = tree.usage().processes
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in tree.members()
        assert tree.usage().processes == before + 1
    tree.close()
