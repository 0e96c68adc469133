"""Profiling passes of real engines on a CPU, through the command that a user types."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from tests.real import ONE_THREAD, run

pytestmark = pytest.mark.real
WORKLOAD = """\
prompt: {tokens: {kind: uniform, min: 16, max: 48}}
output: {tokens: 24}
load: {kind: offline, requests: 6}
warmup: {requests: 4, output_tokens: 8, max_rounds: 1}
"""


@pytest.mark.parametrize("engine", ["vllm", "torch"])
def test_kernels_on_a_cpu_add_up_and_the_measured_run_is_another_process(whole_runs, engine):
    whole = whole_runs[engine]
    result, folder, said = whole.result, whole.folder, whole.stderr
    about, found = result["profiling"], result["kernels"]
    assert about["failure"] is None
    assert result == json.loads((folder / "result.json").read_text())

    # another worker, on the same requests, after the measured one
    assert about["worker_pid"] != about["measured_worker_pid"]
    jobs = [json.loads((part / "job.json").read_text()) for part in (folder, folder / "profile-kernels")]
    assert jobs[0]["workload_hash"] == jobs[1]["workload_hash"] == result["workload_hash"]
    assert jobs[0]["load"] == jobs[1]["load"]
    assert jobs[0].get("profile") is None
    first, second = (pq.read_table(part / "steps.parquet") for part in (folder, folder / "profile-kernels"))
    assert second["start_ns"][0].as_py() > first["end_ns"][-1].as_py()
    assert second["prefill_positions"].to_pylist() == first["prefill_positions"].to_pylist()[: len(second)]
    assert "profiling pass (kernels): capturing from step 0" in said

    # classes add up, in the result and in the table that it came from
    table = pq.read_table(folder / "profile-kernels" / "kernels.parquet")
    assert found["steps"]["with_prefill"] >= 1
    assert found["steps"]["decode_only"] >= 20
    for kind, total in found["total_ns"].items():
        assert sum(part["ns"] for part in found["classes"][kind].values()) == total
    inside = np.array([step is not None for step in table["step"].to_pylist()])
    assert table["self_ns"].to_numpy()[inside].sum() == found["total_ns"]["all"]
    assert found["classes"]["decode_only"]["gemm"]["ns"] > 0
    assert found["classes"]["decode_only"]["attention"]["ns"] > 0
    assert found["classes"]["decode_only"]["kv_write"]["ns"] > 0
    assert usual_share_of_other(table) < 0.05

    # an operator's step is the one in whose record its time lies, or beside it where it lies in none
    told = table["step"].to_numpy(zero_copy_only=False)[inside].astype(int)
    moments = table["start_ns"].to_numpy()[inside]
    starts, ends = (second[column].to_numpy() for column in ("start_ns", "end_ns"))
    record = np.searchsorted(starts, moments, side="right") - 1
    within = (record >= 0) & (moments <= ends[record])
    assert (record == told)[within].all()
    assert within.mean() > 0.9
    assert found["busy_s_per_step"]["all"] <= found["wall_s_per_step"]["all"] * 1.05
    assert 0 < found["estimate"]["busy_s"] <= result["window"]["duration_s"]


def usual_share_of_other(table):
    """The part of operators of no known class, had each call of an operator taken as long as its usual one.

    The sums themselves are another matter: any call may be the one in which another process got the core.
    """
    spent: dict[tuple[str, str], list[int]] = {}
    for name, kind, ns in zip(*(table[column].to_pylist() for column in ("name", "class", "self_ns")), strict=True):
        spent.setdefault((name, kind), []).append(ns)
    usual = {key: np.median(times) * len(times) for key, times in spent.items()}
    return sum(ns for (_, kind), ns in usual.items() if kind == "other") / sum(usual.values())


def test_the_host_s_flame_graph_shows_the_engine_s_step(tmp_path):
    """Of more steps where a busy machine let py-spy attach only when the first ones were over."""
    (tmp_path / "small.yaml").write_text(WORKLOAD)
    for steps in (100, 1000):
        folder = tmp_path / str(steps)
        given = ("--profile", "host", "--profile-steps", f"0:{steps}", "--workload-arg", f"output.tokens={steps + 10}")
        done = run(
            "--engine", "openvino", *ONE_THREAD, "--workload", "small.yaml", "--out", folder, "--json",
            "--set", "max_batch_size=8", "--ceilings", "off", *given, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        about = result["profiling"]
        if about["failure"] is None:
            break
        assert "before py-spy took a sample;" in about["failure"]["message"]
    assert about["failure"] is None, about["failure"]
    assert about["captured"]["ranges"] == [[0, steps]]
    assert about["host"]["samples"] > 0
    stacks = (folder / "profile-host" / "stacks.txt").read_text()
    assert "step (engines/openvino/session.py)" in stacks
    ET.parse(folder / "profile-host" / "flame.svg")
    assert result["kernels"] is None
    assert not [p for p in psutil.Process(os.getpid()).children(recursive=True) if "py-spy" in p.name()]
