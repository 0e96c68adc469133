"""The host while the engine steps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.host import summary
from innerloop.harness.telemetry.host import HostSampler

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


BUSY = """
import time
block = bytearray(64 << 20)
end = time.monotonic() + 1.0
while time.monotonic() < end: pass
"""


@linux
def test_a_busy_process_is_seen_at_work() -> None:
    sampler = HostSampler(0.05)
    begun = time.monotonic_ns()
    process = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
    sampler.start(process.pid)
    process.wait()
    found = sampler.stop()
    host = summary(found, begun, time.monotonic_ns())
    assert found.error is None
    assert host is not None
    assert host["worker_user_s"] > 0.2
    assert host["worker_rss_peak_bytes"] > 64 << 20
    assert host["worker_processes_max"] == 1
    assert host["cpus"] == os.sysconf("SC_NPROCESSORS_ONLN")
    assert 0 < host["busy_share"] <= 1
    counters = ("worker_user_s", "worker_system_s", "machine_busy_s", "harness_cpu_s")
    assert all((np.diff(found.table[name]) >= 0).all() for name in counters)


@linux
def test_the_first_and_the_last_sample_have_context_switches() -> None:
    sampler = HostSampler(0.01)
    sampler.start(os.getpid())
    while len(sampler._rows) < 3:
        time.sleep(0.001)
    table: Any = sampler.stop().table
    assert table["worker_voluntary_switches"][[0, -1]].min() >= 0
    assert table["worker_voluntary_switches"].min() == -1


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
