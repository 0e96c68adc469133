"""The machine's state from a made-up tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from innerloop.harness.machine.state import clock_limits, host_state, huge_pages, numa_node, numa_nodes


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def test_what_the_kernel_says_is_read(tmp_path):
    first = min(os.sched_getaffinity(0))
    cpus = "sys/devices/system/cpu"
    put(tmp_path, f"{cpus}/cpu{first}/cpufreq/scaling_governor", "powersave")
    put(tmp_path, f"{cpus}/cpu{first}/cpufreq/scaling_cur_freq", "2400000")
    put(tmp_path, f"{cpus}/cpu{first}/cpufreq/scaling_max_freq", "3800000")
    put(tmp_path, f"{cpus}/intel_pstate/no_turbo", "1")
    put(tmp_path, f"{cpus}/smt/active", "1")
    put(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    put(tmp_path, f"{cpus}/isolated", "2-3")
    put(tmp_path, "proc/loadavg", "0.50 0.25 0.10 1/234 5678")
    put(tmp_path, "proc/sys/kernel/random/boot_id", "8c0f")
    found = host_state((1,), None, tmp_path)
    assert (found.governor, found.turbo, found.smt, found.isolated_cpus) == ("powersave", False, True, "2-3")
    assert found.frequency_mhz == (2400.0, 2400.0)
    assert (found.clock_limits, found.huge_pages) == ("1x3800", "madvise")
    assert found.load_average == (0.5, 0.25, 0.1)
    assert (found.boot_id, found.worker_cpus, found.harness_cpus) == ("8c0f", (1,), None)
    assert found.affinity == tuple(sorted(os.sched_getaffinity(0)))
    assert found.niceness == os.nice(0)


def test_what_the_kernel_does_not_say_is_unknown(tmp_path):
    found = host_state(root=tmp_path)
    told = (found.governor, found.turbo, found.smt, found.frequency_mhz, found.isolated_cpus, found.load_average)
    assert set(told) == {None}
    assert found.boot_id is None


def test_a_virtual_machines_frequency_is_in_cpuinfo(tmp_path):
    put(tmp_path, "proc/cpuinfo", "model name: x\ncpu MHz\t\t: 2250.000\ncpu MHz\t\t: 2300.5")
    put(tmp_path, "sys/devices/system/cpu/cpufreq/boost", "1")
    found = host_state(root=tmp_path)
    assert found.frequency_mhz == (2250.0, 2300.5)
    assert found.turbo is True


def test_a_devices_node_is_found_under_the_kernels_name_of_it(tmp_path):
    put(tmp_path, "sys/bus/pci/devices/0000:3b:00.0/numa_node", "1")
    put(tmp_path, "sys/bus/pci/devices/0000:5e:00.0/numa_node", "-1")
    assert numa_node("00000000:3B:00.0", tmp_path) == 1
    assert numa_node("00000000:5E:00.0", tmp_path) is None
    assert numa_node("00000000:FF:00.0", tmp_path) is None


def test_memory_nodes_are_those_of_the_cpus_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for node, cpus in ((0, (0, 1)), (1, (2, 3))):
        for cpu in cpus:
            (tmp_path / "sys/devices/system/node" / f"node{node}" / f"cpu{cpu}").mkdir(parents=True)
    for affinity, found in (({0, 1}, None), ({0, 2}, 2), ({9}, None)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, these=affinity: these)
        assert numa_nodes(tmp_path) == found


def test_the_clocks_that_cores_may_have_tell_their_kinds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu, khz in enumerate((3800000, 3800000, 2600000, 2600000)):
        put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_max_freq", str(khz))
    for affinity, found in (({0, 1}, "2x3800"), ({0, 2, 3}, "1x3800 2x2600"), ({9}, None)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, these=affinity: these)
        assert clock_limits(tmp_path) == found


def test_who_gets_large_pages(tmp_path: Path) -> None:
    assert huge_pages(tmp_path) is None
    put(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    assert huge_pages(tmp_path) == "madvise"
