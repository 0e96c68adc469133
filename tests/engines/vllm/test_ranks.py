"""A real run of vLLM on two ranks, whose worker is killed: both ranks were seen, and none is left."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.real import check_failed, start_long

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two cores"),
]
TWO = ("--set", "tensor_parallel=2", "--set", "kv_cache_tokens=8192", "--set", "context_length=1024")


def shared_memory(processes: list[psutil.Process]) -> set[Path]:
    """What these have of multiprocessing's."""
    mapped = (line.split()[-1] for one in processes for line in Path(f"/proc/{one.pid}/maps").read_text().splitlines())
    return {Path(path) for path in mapped if path.startswith("/dev/shm/psm_")}


def test_a_killed_worker_leaves_no_rank_and_what_it_recorded_tells_of_both(tmp_path):
    going = start_long("vllm", tmp_path / "run", *TWO)
    try:
        going.until_measuring()
        worker = going.worker()
        assert len(worker.children(recursive=True)) >= 2
        shared = shared_memory(worker.children(recursive=True))
        worker.kill()
        result = check_failed(going, "killed_by_signal", 3)
        assert not going.left()
        assert shared
        assert not [path for path in shared if path.exists()]
    finally:
        going.end()
    steps = pq.read_table(tmp_path / "run" / "steps.parquet")
    assert min(steps["prepare_ns"].to_pylist()) > 0
    assert min(steps["wait_ns"].to_pylist()) > 0
    assert result["engine"]["effective"]["tensor_parallel"] == 2
    assert result["telemetry"]["host"]["worker_processes_max"] >= 3  # the engine core and its ranks
