"""Verification of real engines: right ones pass, planted mistakes are caught; weights of few bits are read rightly."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import environments
from innerloop.harness.profiles.engines import load_engine
from tests.real import ROOT, run

pytestmark = pytest.mark.real

MINUTES = pytest.mark.skipif(
    "INNERLOOP_LONG_TESTS" not in os.environ, reason="takes minutes on a CPU; set INNERLOOP_LONG_TESTS=1"
)
WORKLOAD = """\
prompt: {tokens: {kind: uniform, min: 24, max: 40}}
output: {tokens: {kind: uniform, min: 12, max: 24}}
load: {kind: offline, requests: 12}
warmup: {requests: 4, output_tokens: 4, max_rounds: 1}
"""
SMALL_CACHE = ("--engine-arg", "page_size=16", "--set", "kv_cache_tokens=256")  # 12 requests do not fit: preemptions
WEIGHTS = ROOT / "tests" / "engines" / "reference" / "weights_by_hand.py"


def python_of_torch() -> Path:
    return environments.create(load_engine("torch"), "cpu").python


def verified(folder: Path, *arguments: object) -> dict[str, Any]:
    (folder / "less.yaml").write_text(WORKLOAD)
    out = folder / "r"
    done = run("--workload", "less.yaml", "--verify", "--ceilings", "off", "--out", out, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "result.json").read_text())


def mistaken(folder: Path, mistake: str, *more: object) -> dict[str, Any]:
    plugin = ROOT / "tests" / "plugins" / "wrong_torch"
    given = ("--engine", plugin, "--engine-python", python_of_torch(), "--engine-arg", f"mistake={mistake}")
    return verified(folder, *given, *more)


@pytest.mark.parametrize(
    ("engine", "arguments"),
    [
        ("torch", ()),
        ("vllm", ("--model", "qwen3-moe-tiny")),
        pytest.param("vllm", ("--set", "dtype=bfloat16"), marks=MINUTES),
        pytest.param("vllm", ("--model", "llama-tiny-fp8"), marks=MINUTES),
    ],
    ids=["torch", "vllm", "vllm-bf16", "vllm-fp8"],
)
def test_a_right_engine_passes(engine: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    found = verified(tmp_path, "--engine", engine, *arguments)["verification"]
    assert found["failure"] is None
    assert found["missed"] == []
    assert found["passed"] is True
    assert found["repeat"]["rms_nats"] <= found["lines"]["rms_nats"]
    assert found["run"]["requests"] == 12
    if "qwen3-moe-tiny" in arguments:
        assert (found["experts"]["layers"], len(found["experts"]["shares"])) == (4, 16)
        assert sum(found["experts"]["shares"]) == pytest.approx(4)  # that each position takes


def test_a_corrupted_tensor_is_caught(tmp_path: Path) -> None:
    result = mistaken(tmp_path, "tensor")
    found = result["verification"]
    assert found["passed"] is False
    assert result["status"] == "suspect"
    assert {one["way"] for one in found["missed"]} == {"run", "repeat", "alone"}


def test_blocks_swapped_only_in_large_batches_are_caught_there(tmp_path: Path) -> None:
    found = mistaken(tmp_path, "block")["verification"]
    assert found["passed"] is False
    assert {one["way"] for one in found["missed"]} >= {"run", "repeat"}
    assert "alone" not in {one["way"] for one in found["missed"]}
    assert found["first_divergence"]["running"] > 8


def test_a_wrong_position_after_a_preemption_is_caught(tmp_path: Path) -> None:
    result = mistaken(tmp_path, "position", *SMALL_CACHE)
    assert result["counts"]["preemptions"] > 0
    found = result["verification"]
    assert found["passed"] is False
    assert "alone" not in {one["way"] for one in found["missed"]}


def test_the_same_cache_without_the_mistake_passes(tmp_path: Path) -> None:
    result = mistaken(tmp_path, "", *SMALL_CACHE)
    assert result["counts"]["preemptions"] > 0
    assert result["verification"]["passed"] is True


def test_an_engine_that_repeats_an_answer_is_caught(tmp_path: Path) -> None:
    found = mistaken(tmp_path, "cached")["verification"]
    assert found["passed"] is False
    assert found["run"]["flips_beyond"] > found["run"]["positions"] / 2


@pytest.mark.parametrize("model", ["llama-tiny-awq", "llama-tiny-gptq", "llama-tiny-fp8"])
def test_weights_of_few_bits_are_read_as_what_they_stand_for(model: str) -> None:
    from innerloop.harness.checkpoints import ensure_checkpoint
    from innerloop.harness.profiles import load_model

    profile = load_model(model)
    folder = ensure_checkpoint(profile, profile.dtype).path
    done = subprocess.run(
        [python_of_torch(), WEIGHTS, ROOT / "engines" / "reference", folder],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
