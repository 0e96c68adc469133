"""The host while the engine steps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.host import summary
from innerloop.harness.telemetry import host as module
from innerloop.harness.telemetry.host import HostSampler
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
    assert host.worker_user_s > 0.2
    assert host.worker_rss_peak_bytes > 64 << 20
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
