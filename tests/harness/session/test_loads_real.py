"""Sessions and a trace with shared blocks on engines that compute: whose output is in a prompt, and what caches hit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.real import FEW_LAYERS, ONE_MORE, result_of, run

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


@dataclass(frozen=True)
class Ran:
    result: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module", params=["torch", pytest.param("vllm", marks=ONE_MORE)])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Both loads, as windows of one process."""
    engine, place = request.param, tmp_path_factory.mktemp(request.param)
    for name, workload in (("sessions", SESSIONS), ("trace", TRACE)):
        (place / f"{name}.yaml").write_text(workload)
    rng = np.random.default_rng(1)
    blocks = [[int(rng.integers(4)), 10, 20 + k] for k in range(40)]
    rows = [
        {"timestamp": 5 * k, "input_length": 130, "output_length": 2, "hash_ids": ids} for k, ids in enumerate(blocks)
    ]
    (place / "trace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(
        "--engine", engine, "--device", "cpu", *FEW_LAYERS, "--windows", "./sessions.yaml,./trace.yaml",
        "--set", "prefix_caching=true", "--set", "kv_cache_tokens=8192", "--set", "max_batch_size=4",
        "--engine-arg", BLOCK[engine], "--ceilings", "off", "--keep-token-ids", "--out", "both", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = {name: place / "both" / "runs" / f"{name}-1" for name in ("sessions", "trace")}
    return {name: Ran(result_of(folder), folder) for name, folder in folders.items()}


def parts(file: Any, ids: str, offsets: str) -> list[list[int]]:
    return [part.tolist() for part in np.split(file[ids], file[offsets][1:-1])]


def test_prompts_of_sessions_contain_the_engines_own_output_and_are_hit(ran: dict[str, Ran]) -> None:
    result, folder = ran["sessions"].result, ran["sessions"].folder
    with np.load(folder / "output_ids.npz") as kept, np.load(folder / "workload.npz") as drawn:
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


def test_a_trace_is_hit_as_often_as_its_blocks_allow_and_is_the_same_for_other_engines(ran: dict[str, Ran]) -> None:
    result, folder = ran["trace"].result, ran["trace"].folder
    caches = result["caches"]
    # of requests that are prefilled in one step none hits what another one brings
    assert caches["prefix_hit_share"] == pytest.approx(caches["possible_hit_share_in_blocks"], abs=0.1)
    assert caches["prefix_hit_share"] <= caches["possible_hit_share_in_blocks"]
    assert caches["possible_hit_share"] == pytest.approx(36 * 128 / (40 * 130), abs=0.01)
    other = ("--engine", "openvino", "--device", "cpu", "--workload", "./trace.yaml", "--dry-run", "--json")
    planned = run(*other, cwd=folder.parents[2])
    assert json.loads(planned.stdout)["workload_hash"] == result["workload_hash"]
