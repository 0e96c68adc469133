"""Limits of control groups of both versions, read from made-up trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.harness.machine import cgroups
from innerloop.harness.process import ended

GIB = 1 << 30


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def own(tree: Path, text: str) -> Path:
    tree.mkdir(parents=True, exist_ok=True)
    path = tree.parent / "own"
    path.write_text(text)
    return path


def test_version_2_takes_the_tightest_of_all_groups_above(tree: Path) -> None:
    group(tree / "a", cpu__max="150000 100000", memory__max=str(4 * GIB), memory__current=str(GIB))
    group(tree / "a" / "b", cpu__max="max 100000", memory__max="max", memory__current=str(GIB))
    mine = own(tree, "0::/a/b\n")
    assert cgroups.cpu_quota(tree, mine) == 1.5
    assert cgroups.memory(tree, mine) == (4 * GIB, 3 * GIB)


def test_version_1_is_read_from_its_own_trees(tree: Path) -> None:
    group(tree / "cpu,cpuacct" / "job", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    group(tree / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="0")
    group(tree / "memory" / "job", memory__limit_in_bytes=str(8 * GIB), memory__usage_in_bytes=str(6 * GIB))
    group(tree / "memory" / "job", memory__stat=f"inactive_file 1\ntotal_inactive_file {2 * GIB}")
    mine = own(tree, "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n")
    assert cgroups.cpu_quota(tree, mine) == 2.0
    assert cgroups.memory(tree, mine) == (8 * GIB, 4 * GIB)


def test_no_limit_is_none(tree: Path) -> None:
    group(tree / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    group(tree / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="0")
    mine = own(tree, "4:memory:/\n1:cpu:/\n0::/\n")
    assert cgroups.cpu_quota(tree, mine) is None
    assert cgroups.memory(tree, mine) is None


def test_a_group_that_is_not_visible_from_inside_a_container_is_passed_over(tree: Path) -> None:
    group(tree, cpu__max="50000 100000", memory__max=str(GIB), memory__current="0")
    mine = own(tree, "0::/docker/abc\n")
    assert cgroups.cpu_quota(tree, mine) == 0.5
    assert cgroups.memory(tree, mine) == (GIB, GIB)


def test_a_system_without_control_groups_has_no_limits(tree: Path) -> None:
    assert cgroups.cpu_quota(tree, tree / "absent") is None
    assert cgroups.memory(tree, tree / "absent") is None


def test_where_the_kernel_does_not_say_which_group_it_is_the_root_is_taken(tree: Path) -> None:
    group(tree, cpu__max="50000 100000", memory__max=str(GIB), memory__current="0")
    assert cgroups.cpu_quota(tree, tree / "none") == 0.5
    assert cgroups.memory(tree, tree / "none") == (GIB, GIB)
    old = tree.with_name("old")
    group(old / "cpu", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert cgroups.cpu_quota(old, tree / "none") == 2.0


def test_only_what_was_killed_for_memory_in_this_group_counts(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(tree / "a", memory__events="low 0\noom 9\noom_kill 7")
    group(tree / "a" / "b", memory__events="low 0\noom 3\noom_kill 2")
    assert cgroups.oom_kills(tree, own(tree, "0::/a/b\n")) == 2
    assert cgroups.oom_kills(tree, own(tree, "0::/a\n")) == 7
    group(tree / "memory" / "job", memory__oom_control="oom_kill 4")
    assert cgroups.oom_kills(tree, own(tree, "4:memory:/job\n0::/\n")) is None
    monkeypatch.setattr(cgroups, "oom_kills", lambda: 5)
    assert ended.oom_kills() == 5
    monkeypatch.setattr(cgroups, "oom_kills", lambda: None)
    assert ended.oom_kills() >= 0
