"""Verification of real engines: right ones pass, planted mistakes are caught; weights of few bits are read rightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import environments
from innerloop.harness.profiles.engines import load_engine
from tests.real import FEW_LAYERS, FOUR_BITS, ONE_MORE, ROOT, run
from tests.scripts import interpreter
from tests.shared import Whole

pytestmark = pytest.mark.real

WORKLOAD = """\
prompt: {tokens: {kind: uniform, min: 24, max: 40}}
output: {tokens: {kind: uniform, min: 8, max: 16}}
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
    given = ("--workload", "less.yaml", "--verify", "--ceilings", "off", "--out", out)
    done = run(*given, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "result.json").read_text())


def mistaken(folder: Path, mistake: str, *more: object) -> dict[str, Any]:
    plugin = ROOT / "tests" / "plugins" / "wrong_torch"
    given = ("--engine", plugin, "--engine-python", python_of_torch(), "--engine-arg", f"mistake={mistake}")
    return verified(folder, *given, *FEW_LAYERS, *more)


def passes(found: dict[str, Any], requests: int) -> None:
    assert found["failure"] is None
    assert found["missed"] == []
    assert found["passed"] is True
    assert found["repeat"]["rms_nats"] <= found["lines"]["rms_nats"]
    assert found["run"]["requests"] == requests


def test_vllm_passes(whole_runs: dict[str, Whole]) -> None:
    passes(whole_runs["vllm"].result["verification"], whole_runs["vllm"].result["counts"]["finished"])


@ONE_MORE
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--set", "dtype=bfloat16"), id="bf16"),
        pytest.param(("--model", "llama-tiny-fp8"), id="fp8"),
        pytest.param(("--model", "qwen3-moe-tiny"), id="moe"),
        pytest.param(("--model", "llama-tiny-awq"), id="awq", marks=FOUR_BITS),
        pytest.param(("--model", "llama-tiny-gptq"), id="gptq", marks=FOUR_BITS),
    ],
)
def test_vllm_passes_in_other_formats(arguments: tuple[str, ...], tmp_path: Path) -> None:
    passes(verified(tmp_path, "--engine", "vllm", *arguments)["verification"], 12)


@ONE_MORE  # test_run.py has vLLM's tokens, and those of torch's preempted requests
def test_torch_passes(tmp_path: Path) -> None:
    """What the planted mistakes below are made in."""
    passes(verified(tmp_path, "--engine", "torch", *FEW_LAYERS, *SMALL_CACHE)["verification"], 12)


@ONE_MORE
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


@ONE_MORE
def test_a_wrong_position_after_a_preemption_is_caught(tmp_path: Path) -> None:
    result = mistaken(tmp_path, "position", *SMALL_CACHE)
    assert result["counts"]["preemptions"] > 0
    found = result["verification"]
    assert found["passed"] is False
    assert "alone" not in {one["way"] for one in found["missed"]}


@ONE_MORE  # session/test_verify.py has it with the scripted engine
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
    said = interpreter("torch").run(WEIGHTS, ROOT / "engines" / "reference", folder)
    assert int(said) > 100
