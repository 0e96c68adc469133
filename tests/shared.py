"""Real runs that several files of tests read: fixtures of the whole session, which tests/conftest.py hands out.

tests/groups.py has one test process run all that read the same one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real import FEW_LAYERS, run

SHORT = """\
prompt: {tokens: {kind: uniform, min: 5, max: 60}}
output: {tokens: {kind: uniform, min: 12, max: 40}}
load: {kind: offline, requests: 12}
warmup: {requests: 4, output_tokens: 8, max_rounds: 3, max_s: 30}
"""
SEED = ("--seed", 1)
ARGUMENTS = {  # torch's cache is too small for eight requests: some are preempted
    "vllm": ("--profile", "kernels", "--verify"),
    "torch": ("--profile", "kernels", "--engine-arg", "page_size=16", "--set", "kv_cache_tokens=256"),
}
VARIABLES: dict[str, dict[str, Any]] = {  # for log-probabilities vLLM would compile C++
    "vllm": {"TORCHDYNAMO_DISABLE": "1"}, "torch": {},
}  # fmt: skip
LAYERS = ["core", "engine", "async", "http"]
SMALL = """\
prompt: {tokens: {kind: uniform, min: 5, max: 40}}
output: {tokens: {kind: uniform, min: 12, max: 24}}
load: {kind: offline, requests: 24}
warmup: {requests: 8, output_tokens: 4, max_rounds: 1}
"""


@dataclass(frozen=True)
class Whole:
    """A run with all that can follow it, and what it printed."""

    result: dict[str, Any]
    folder: Path
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Ladder:
    """A ladder of all layers; `workload` is the file of its requests."""

    waterfall: dict[str, Any]
    folder: Path
    results: dict[str, dict[str, Any]]
    workload: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def whole_runs(tmp_path_factory: pytest.TempPathFactory, measured_here: dict[str, Any]) -> dict[str, Whole]:
    """Each engine's run of SHORT with SEED, and its passes after it."""
    return {
        engine: whole_run(engine, tmp_path_factory.mktemp(engine) / "run", *arguments, **measured_here)
        for engine, arguments in ARGUMENTS.items()
    }


def whole_run(engine: str, folder: Path, *arguments: str, **more: Any) -> Whole:
    (folder.parent / "short.yaml").write_text(SHORT)
    done = run(
        "--engine", engine, "--device", "cpu", "--model", "llama-tiny", *FEW_LAYERS, "--workload", "short.yaml",
        *SEED, "--json", "--keep-token-ids", "--set", "max_batch_size=8", "--out", folder, *arguments,
        cwd=folder.parent, **more, **VARIABLES[engine],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Whole(json.loads(done.stdout), folder, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    return ladder_run(tmp_path_factory.mktemp("ladder") / "ladder")


def ladder_run(folder: Path, **more: Any) -> Ladder:
    workload = folder.parent / "small.yaml"
    workload.write_text(SMALL)
    done = run(
        "--engine", "vllm", "--device", "cpu", "--model", "llama-tiny", *FEW_LAYERS, "--workload", workload, "--layers",
        "all", "--ceilings", "off", "--keep-token-ids", "--json", "--out", folder, cwd=folder.parent, **more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = {layer: json.loads((folder / "runs" / f"{layer}-1" / "result.json").read_text()) for layer in LAYERS}
    return Ladder(json.loads(done.stdout), folder, results, workload, done.stdout, done.stderr)
