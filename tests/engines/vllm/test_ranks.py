"""A real run of vLLM with two ranks on two cores, end to end: both ranks are seen, and none is left."""

from __future__ import annotations

import json
import os

import psutil
import pyarrow.parquet as pq
import pytest

from tests.real import run, start_long

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two cores"),
]
WORKLOAD = """\
prompt: {tokens: 24}
output: {tokens: 16}
load: {kind: offline, requests: 8}
warmup: {requests: 2, output_tokens: 4, max_rounds: 1}
"""
TWO = ("--set", "tensor_parallel=2", "--set", "context_length=256", "--set", "kv_cache_tokens=4096")


def test_a_run_on_two_ranks_tells_of_both(tmp_path, measured_here):
    (tmp_path / "short.yaml").write_text(WORKLOAD)
    done = run(
        "--engine", "vllm", "--model", "llama-tiny", "--workload", "short.yaml", *TWO, "--out", tmp_path / "run",
        "--json", cwd=tmp_path, **measured_here,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["checks"] == []
    assert result["counts"]["output_tokens"] == 8 * 16
    assert result["counts"]["prefill_positions"] == 8 * 24
    assert result["counts"]["decode_positions"] == 8 * 15
    assert result["engine"]["unreported"] == []
    assert result["telemetry"]["host"]["worker_processes_max"] >= 3  # the engine core and its ranks
    assert result["roofline"]["peaks"]["devices"] == 1  # the ranks share the CPU whose peaks were measured
    assert min(pq.read_table(tmp_path / "run" / "steps.parquet")["prepare_ns"].to_pylist()) > 0


def test_a_killed_worker_leaves_no_rank(tmp_path):
    going = start_long("vllm", tmp_path / "run", *TWO)
    try:
        going.until_measuring()
        worker = going.worker()
        assert len(worker.children(recursive=True)) >= 2
        worker.kill()
        going.until_gone()
        assert not [p for p in going.members if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    finally:
        going.end()
