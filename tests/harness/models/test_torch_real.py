"""GPT-OSS on the torch engine: the eager attention of continuous batching has its sinks and windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from innerloop.engines.torch.attention import EAGER
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
from tests.real import run
from tests.scripts import MODELS, said_json

pytestmark = pytest.mark.real
WORKLOAD = """\
prompt: {tokens: 24}
output: {tokens: 12}
load: {kind: offline, requests: 4}
warmup: {requests: 1, output_tokens: 2, max_rounds: 1}
"""


def test_its_tokens_are_those_of_a_forward_pass(tmp_path: Path) -> None:
    path = ensure_checkpoint(load_model("gpt-oss-tiny"), "float32", folder=tmp_path).path
    prompts = json.dumps(np.random.default_rng(3).integers(3, 8000, (2, 160)).tolist())  # beyond the window of 128
    found = said_json("torch", MODELS / "batched_tokens.py", path, EAGER, prompts, 8)
    assert found["batched"] == found["plain"]


def test_a_run_comes_to_its_end_with_exact_tokens_and_says_which_attention_it_had(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKLOAD)
    done = run(
        "--engine", "torch", "--model", "gpt-oss-tiny", "--workload", tmp_path / "w.yaml", "--json",
        "--ceilings", "off", "--out", tmp_path / "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["counts"]["output_tokens"] == 4 * 12
    assert result["engine"]["effective"]["attention_backend"] == EAGER
    assert any("this model has no SDPA" in note for note in result["notes"])
    assert any("routing is synthetic" in note for note in result["notes"]) or result["roofline"]["cost"] is None
