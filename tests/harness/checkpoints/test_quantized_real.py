"""vLLM reads the quantized checkpoints: what it computes is what numpy computes from the weights that were meant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
from tests.harness.checkpoints.dequantize import dequantized
from tests.harness.checkpoints.test_synthetic_weights import forward
from tests.real import FOUR_BITS, ONE_MORE, WITHOUT_AVX512, run
from tests.scripts import PROMPT_LOGPROBS, said_json

pytestmark = pytest.mark.real
WORKLOAD = """\
prompt: {tokens: 16}
output: {tokens: 8}
load: {kind: offline, requests: 4}
warmup: {requests: 1, output_tokens: 2, max_rounds: 1}
"""
# Largest mean difference of log probabilities, whose own deviation is 1: vLLM rounds activations to float16 with 4-bit
# weights, to bfloat16 and e4m3 (a relative error of up to 1/16 in each layer) with fp8 weights.
SMALL = ["num_hidden_layers=2", "hidden_size=256", "intermediate_size=512", "num_attention_heads=4"]  # slow loops
ALLOWED = {"llama-tiny-awq": 0.01, "llama-tiny-gptq": 0.01, "llama-tiny-fp8": 0.2}
NAMES = [pytest.param(name, marks=[] if name.endswith("fp8") else [FOUR_BITS]) for name in ALLOWED]


@pytest.mark.parametrize("name", NAMES)
def test_vllm_computes_what_the_dequantized_weights_mean(tmp_path: Path, name: str) -> None:
    model = load_model(name, SMALL)
    path = ensure_checkpoint(model, model.dtype, folder=tmp_path).path
    weights = dequantized(path)
    prompts = np.random.default_rng(0).integers(3, model.vocab_size, (2, 24))
    meant = []
    for prompt in prompts:
        logits = forward(model, weights, prompt)[0].astype(np.float64)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        meant.append(logits[np.arange(len(prompt) - 1), prompt[1:]])
    found = np.array(said_json("vllm", PROMPT_LOGPROBS, path, model.dtype, json.dumps(prompts.tolist())))
    assert np.abs(found - meant).mean() < ALLOWED[name]
    assert np.corrcoef(found.ravel(), np.ravel(meant))[0, 1] > 0.97


@ONE_MORE  # what such a run computes is shown above, and by fp8 weights in engines/vllm/test_stepped.py
@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_quantized_weights_comes_to_its_end(tmp_path: Path, name: str) -> None:
    (tmp_path / "w.yaml").write_text(WORKLOAD)
    done = run(
        "--engine", "vllm", "--model", name, "--workload", tmp_path / "w.yaml", "--json", "--out", tmp_path / "run",
        "--ceilings", "off", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["counts"]["output_tokens"] == 4 * 8
    assert result["spec"]["settings"]["quantization"] == load_model(name).quantization.method  # type: ignore[union-attr]


@ONE_MORE  # what is refused is held by engines/vllm/test_refusals.py
@pytest.mark.skipif(not WITHOUT_AVX512, reason="this CPU has AVX-512")
def test_on_a_cpu_without_avx512_4_bit_weights_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKLOAD)
    done = run(
        "--engine", "vllm", "--model", "llama-tiny-awq", "--workload", tmp_path / "w.yaml", "--json",
        "--ceilings", "off", "--out", tmp_path / "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 3
    failure = json.loads(done.stdout)["failure"]
    assert failure["cause"] == "unsupported_setting"
    assert "AVX-512" in failure["message"]
