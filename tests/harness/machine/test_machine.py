"""What this machine is said to be agrees with what it is."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from innerloop.harness import machine
from innerloop.harness.cli.errors import Refused
from innerloop.harness.machine import cache_folder, cgroups, this_machine
from innerloop.harness.machine.commit import commit_of
from innerloop.harness.machine.gpus import Gpu
from tests.real import ROOT

H200 = Gpu(0, "NVIDIA H200", "GPU-0", 140 * 2**30, "9.0", "580.65", "13.0")


def test_facts_agree_with_the_system() -> None:
    here = this_machine()
    assert here.os == platform.system().lower()
    assert here.python == platform.python_version()
    assert here.logical_cores == len(os.sched_getaffinity(0))
    assert 1 <= here.physical_cores <= here.logical_cores <= here.machine_logical_cores
    assert 0 < here.memory_available_bytes <= here.memory_bytes <= psutil.virtual_memory().total
    assert here.cpu
    assert here.kernel == platform.release()


def test_affinity_is_honoured() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        here = this_machine()
    finally:
        os.sched_setaffinity(0, allowed)
    assert (here.logical_cores, here.physical_cores) == (1, 1)


def test_a_control_groups_memory_limit_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "memory", lambda: (1 << 30, 1 << 20))
    monkeypatch.setattr(cgroups, "cpu_quota", lambda: 0.5)
    here = this_machine()
    assert (here.memory_bytes, here.memory_available_bytes, here.cpu_quota) == (1 << 30, 1 << 20, 0.5)
    assert "limited to 0.5" in here.summary()


def test_the_description_is_json_data() -> None:
    here = replace(this_machine(), gpus=(H200,))
    data = json.loads(json.dumps(asdict(here)))
    assert data["gpus"][0]["name"] == "NVIDIA H200"
    assert data["memory_bytes"] == here.memory_bytes


def test_a_gpu_is_the_preferred_kind_of_device() -> None:
    here = this_machine()
    assert replace(here, gpus=()).device_kinds() == ("cpu",)
    assert replace(here, gpus=(H200,)).device_kinds() == ("cuda", "cpu")


def test_the_summary_counts_gpus_of_a_kind() -> None:
    two = replace(this_machine(), gpus=(H200, replace(H200, index=1)))
    assert two.gpu_summary() == "2 x NVIDIA H200 (140 GiB, compute capability 9.0), driver 580.65, CUDA 13.0"
    assert replace(two, gpus=()).summary().endswith("no NVIDIA GPU")


def test_the_cache_folder_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    assert not (tmp_path / "here").exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNERLOOP_HOME", "relative")
    assert cache_folder() == tmp_path / "relative"
    monkeypatch.delenv("INNERLOOP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "innerloop"


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_variable_is_as_if_it_were_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blank: str) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", blank)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "innerloop"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "code.py").write_text("1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_the_commit_of_a_checkout_says_whether_its_code_was_changed(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert commit_of(checkout) == commit
    (checkout / "notes.txt").write_text("what a run cannot depend on")
    assert commit_of(checkout) == commit
    (checkout / "harness" / "code.py").write_text("2\n")
    assert commit_of(checkout) == commit + "-dirty"


def test_a_new_file_among_the_code_is_a_change(checkout: Path) -> None:
    (checkout / "engines").mkdir()
    (checkout / "engines" / "new.py").touch()
    assert str(commit_of(checkout)).endswith("-dirty")


def test_an_installed_package_has_no_commit(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commit_of(checkout / "harness") is None  # below a checkout, but not its top: a venv inside a repository
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))
    assert commit_of(checkout) is None


def test_variables_of_git_do_not_lead_elsewhere(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert commit_of(checkout) is not None


def test_importing_it_loads_nothing_heavy() -> None:
    script = "import sys, harness.machine; print(*{'numpy', 'psutil', 'pydantic', 'platformdirs'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_system_without_cpuinfo_is_described_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(machine.Path, "read_text", refuse)
    here = this_machine()
    assert here.cpu
    assert here.cpu_flags == ()
    assert here.physical_cores >= 1


def test_a_cache_of_nobody_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", "~no-such-user/cache")
    with pytest.raises(Refused, match="there is no such user"):
        cache_folder()
    monkeypatch.delenv("INNERLOOP_HOME")

    def homeless(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_cache_path", homeless)
    with pytest.raises(Refused, match="has no home folder") as refused:
        cache_folder()
    assert refused.value.details == ("set INNERLOOP_HOME to a writable folder",)


def test_what_proc_does_not_say_is_asked_of_the_system_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> None:
        raise KeyError(b"MemTotal:")  # psutil's, of a file that is empty

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    monkeypatch.setattr(psutil, "cpu_times", hidden)
    total, available = machine.memory()
    assert total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available <= total
    assert machine.cpu_times() is None
    assert 0 < this_machine().memory_bytes <= total


def test_an_arm_cpu_is_told_from_another_by_its_registers() -> None:
    fields = {"cpu implementer": "0x41", "cpu part": "0xd40", "cpu variant": "0x1"}
    assert machine._arm(fields) == "Arm CPU 41-d40-1"
    assert machine._arm({}) is None
