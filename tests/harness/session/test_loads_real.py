"""Sessions and a trace with shared blocks on engines that compute: whose output is in a prompt, and what caches hit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.real import FEW_LAYERS, ONE_MORE, run

pytestmark = pytest.mark.real

SESSIONS = """
prompt: {shared_prefix_tokens: 64, tokens: {kind: uniform, min: 16, max: 48}}
output: {tokens: {kind: uniform, min: 4, max: 10}}
load: {kind: sessions, sessions: 3, turns: 5, think_s: 0.05, users: 2}
warmup: {requests: 1, output_tokens: 4, max_rounds: 1, max_s: 1}
"""
TRACE = """
load: {kind: trace, path: trace.jsonl, block_tokens: 64}
warmup: {requests: 1, output_tokens: 2, max_rounds: 1, max_s: 1}
"""
BLOCK = {"vllm": "block_size=32", "torch": "page_size=32"}


def measured(engine: str, folder: Path, workload: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "w.yaml").write_text(workload)
    settings = ("--set", "prefix_caching=true", "--set", "kv_cache_tokens=8192", "--set", "max_batch_size=4")
    asked = ("--engine", engine, "--device", "cpu", "--workload", "./w.yaml", *settings, "--engine-arg", BLOCK[engine])
    done = run(*asked, *FEW_LAYERS, "--ceilings", "off", "--keep-token-ids", "--out", "run", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def parts(file: Any, ids: str, offsets: str) -> list[list[int]]:
    return [part.tolist() for part in np.split(file[ids], file[offsets][1:-1])]


@pytest.mark.parametrize("engine", ["vllm", pytest.param("torch", marks=ONE_MORE)])
def test_prompts_of_sessions_contain_the_engines_own_output_and_are_hit(engine: str, tmp_path: Path) -> None:
    result = measured(engine, tmp_path, SESSIONS)
    with np.load(tmp_path / "run" / "output_ids.npz") as kept, np.load(tmp_path / "run" / "workload.npz") as drawn:
        prompts, outputs = parts(kept, "prompt_ids", "prompt_offsets"), parts(kept, "ids", "offsets")
        own, following = parts(drawn, "prompt_tokens", "prompt_offsets"), drawn["next_request"].tolist()
        continued = drawn["history_lens"] > 0
    turns = [(index, follower) for index, follower in enumerate(following) if follower >= 0 and continued[follower]]
    assert len(turns) == 3 * 4
    for index, follower in turns:
        assert prompts[follower] == prompts[index] + outputs[index] + own[follower]
    caches = result["caches"]
    assert caches["block_tokens"] == 32
    assert caches["prefix_hit_share"] == pytest.approx(caches["possible_hit_share_in_blocks"], abs=0.1)
    assert caches["prefix_hit_share"] > 0.5
    assert result["workload"]["sessions"] == 3


def test_a_trace_is_hit_as_often_as_its_blocks_allow_and_is_the_same_for_both_engines(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [{"timestamp": 5 * k, "input_length": 130, "output_length": 2} for k in range(40)]
    text = "".join(
        json.dumps({**row, "hash_ids": [int(rng.integers(4)), 10, 20 + k]}) + "\n" for k, row in enumerate(rows)
    )
    (tmp_path / "trace.jsonl").write_text(text)
    result = measured("torch", tmp_path, TRACE)
    caches = result["caches"]
    # of requests that are prefilled in one step none hits what another one brings
    assert caches["prefix_hit_share"] == pytest.approx(caches["possible_hit_share_in_blocks"], abs=0.1)
    assert caches["prefix_hit_share"] <= caches["possible_hit_share_in_blocks"]
    assert caches["possible_hit_share"] == pytest.approx(36 * 128 / (40 * 130), abs=0.01)
    vllm = run("--engine", "vllm", "--device", "cpu", "--workload", "./w.yaml", "--dry-run", "--json", cwd=tmp_path)
    assert json.loads(vllm.stdout)["workload_hash"] == result["workload_hash"]
