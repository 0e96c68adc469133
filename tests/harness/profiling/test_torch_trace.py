"""Traces as torch's profiler exports them, made by hand: the form of torch 2.13's, with CUDA's categories."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from innerloop.engines.worker.trace import STEP
from innerloop.harness.analysis.kernel_classes import CLASSES
from innerloop.harness.analysis.kernels import PassFacts, analyse
from innerloop.harness.profiling import events, torch_trace
from innerloop.harness.schema.profiling import Slowdown

MAIN, OTHER = 4242, 4300


def event(cat: str, name: str, ts: float, dur: float, tid: int = MAIN, **arguments) -> dict:
    return {"ph": "X", "cat": cat, "name": name, "pid": 4242, "tid": tid, "ts": ts, "dur": dur, "args": arguments}


def kernel(name: str, ts: float, dur: float, correlation: int, cat: str = "kernel", stream: int = 7) -> dict:
    return event(cat, name, ts, dur, stream, stream=stream, device=0, correlation=correlation)


def step(number: int, ts: float, dur: float) -> dict:
    return event("user_annotation", f"innerloop/step {number}", ts, dur)


def write(folder: Path, *trace: dict, name: str = "window-0.json.gz") -> Path:
    path = folder / name
    document = {"schemaVersion": 1, "baseTimeNanoseconds": 0, "traceEvents": list(trace)}
    with gzip.open(path, "wt") as file:
        json.dump(document, file)
    return path


def captured(*rows: tuple[int, int, int]):
    """(step, start, end) in microseconds of the worker's clock."""
    return events.captured(
        {"columns": ["step", "start_ns", "end_ns", "window"], "rows": [[n, a * 1000, b * 1000, 0] for n, a, b in rows]}
    )


GPU = (
    {"ph": "M", "name": "process_name", "pid": 4242, "args": {"name": "python"}},
    step(30, 1000.0, 100.0),
    step(31, 1200.0, 100.0),
    event("user_annotation", "innerloop/schedule", 1001.0, 5.0),
    event("cpu_op", "aten::mm", 1010.0, 8.0),
    event("cuda_runtime", "cudaLaunchKernel", 1010.5, 4.0, correlation=11),
    event("cuda_runtime", "cudaGraphLaunch", 1090.0, 9.0, correlation=12),
    event("cuda_runtime", "cudaMemcpyAsync", 1150.0, 2.0, correlation=13),
    event("cuda_runtime", "cudaLaunchKernel", 1180.0, 2.0, OTHER, correlation=14),
    event("gpu_user_annotation", "innerloop/step 30", 1020.0, 300.0, 7, stream=7, device=0),
    kernel("nvjet_tst_64x8", 1020.0, 10.0, 11),
    kernel("flash::flash_fwd_splitkv_kernel", 1110.0, 50.0, 12),
    kernel("void vllm::reshape_and_cache_flash_kernel", 1160.0, 20.125, 12),
    kernel("Memcpy HtoD (Pinned -> Device)", 1185.0, 3.0, 13, cat="gpu_memcpy"),
    kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL", 1190.0, 4.0, 14),
    kernel("Memset (Device)", 1230.0, 1.0, 99, cat="gpu_memset"),
)


def test_each_kernel_goes_to_the_step_that_launched_it(tmp_path):
    found = torch_trace.read([write(tmp_path, *GPU)], captured((30, 5000, 5101), (31, 5200, 5301)), "cuda")
    by_name = {found.names[row["name"]]: row for row in found.table}
    assert {name: int(row["step"]) for name, row in by_name.items()} == {
        "nvjet_tst_64x8": 30,
        "flash::flash_fwd_splitkv_kernel": 30,  # of a graph that was launched in step 30 and ran after it
        "void vllm::reshape_and_cache_flash_kernel": 30,  # of the same graph: the same correlation
        "Memcpy HtoD (Pinned -> Device)": -1,  # launched between two steps
        "ncclDevKernel_AllReduce_Sum_bf16_RING_LL": 30,  # by a thread that does not step
        "Memset (Device)": 31,  # its launch is not in the trace
    }
    assert found.device == "cuda"
    assert found.by_time == 1
    assert by_name["nvjet_tst_64x8"]["start_ns"] == 5_020_000  # on the worker's clock
    assert by_name["void vllm::reshape_and_cache_flash_kernel"]["self_ns"] == 20_125
    assert by_name["nvjet_tst_64x8"]["lane"] == 7


def test_a_batch_launched_ahead_has_the_step_that_it_comes_out_of(tmp_path):
    trace = (
        *GPU,
        event("user_annotation", "innerloop/ahead 1", 1005.0, 50.0),
        event("user_annotation", "innerloop/ahead 1", 1205.0, 50.0),
    )
    found = torch_trace.read([write(tmp_path, *trace)], captured((30, 5000, 5101), (31, 5200, 5301)), "cuda")
    by_name = {found.names[row["name"]]: int(row["step"]) for row in found.table}
    assert by_name["nvjet_tst_64x8"] == 31  # launched at 1010
    assert by_name["flash::flash_fwd_splitkv_kernel"] == 30  # launched at 1090, outside of the range
    assert found.ranges["step"].tolist() == [31]


def graph_steps(lost: set[int], ahead: int) -> list[dict]:
    """Six steps of 1000 us, each with one graph that runs 900 us; of some launches no kernel was recorded."""
    trace = []
    for k in range(6):
        at = 1000.0 * k
        trace += [
            step(k, at, 990.0),
            event("user_annotation", f"innerloop/ahead {ahead}", at + 10, 100.0),
            event("cuda_runtime", "cudaGraphLaunch", at + 20, 30.0, correlation=k + 1),
        ]
        trace += [] if k in lost else [kernel("gemm", at + 60, 900.0, k + 1)]
    return trace


@pytest.mark.parametrize(
    ("lost", "ahead", "left", "idle"),
    [
        (set(), 0, [0, 1, 2, 3, 4, 5], 0.1),
        ({0, 1}, 0, [2, 3, 4, 5], 0.1),  # the beginning of a session, as CUPTI loses it
        ({2}, 0, [0, 1, 3, 4, 5], 0.1),  # the windows end before it and begin after it
        ({0}, 1, [2, 3, 4, 5], 0.1),  # the batch that was launched in step 0 comes out of step 1, as 0's own was before
    ],
)
def test_a_launch_of_which_nothing_was_seen_does_not_make_the_device_idle(tmp_path, lost, ahead, left, idle):
    rows = [(k, 1000 * k, 1000 * k + 990) for k in range(6)]
    found = torch_trace.read([write(tmp_path, *graph_steps(lost, ahead))], captured(*rows), "cuda")
    assert found.ranges["step"].tolist() == left
    assert found.lost == len(lost)
    assert found.left_out == len(lost)
    steps = np.zeros(6, STEP)
    for k, (_, start, end) in enumerate(rows):
        steps[k]["start_ns"], steps[k]["end_ns"], steps[k]["decode_tokens"] = start * 1000, end * 1000, 1
    facts = PassFacts("kernels", Slowdown(None, None))
    figures = analyse(found.table, found.names, found.ranges, found.device, steps, steps, facts)
    assert figures.idle_share.all == pytest.approx(idle, abs=0.02)
    assert figures.launches_per_step.all == 1.0


@pytest.mark.parametrize("lost", [{0}, {0, 1, 2}])
def test_what_one_window_lost_leaves_the_others_apart(tmp_path, lost):
    """Windows lie far apart; the first one has lost some of its records, or all."""
    rows, traces = [], []
    for window in range(2):
        at = 100_000 * window
        rows += [[3 * window + k, (at + 1000 * k) * 1000, (at + 1000 * k + 990) * 1000, window] for k in range(3)]
        trace = []
        for k in range(3):
            begun = at + 1000.0 * k
            trace += [step(3 * window + k, begun, 990.0), event("cpu_op", "aten::mm", begun + 1, 5.0)]
            trace.append(event("cuda_runtime", "cudaGraphLaunch", begun + 20, 30.0, correlation=k + 1))
            trace += [] if not window and k in lost else [kernel("gemm", begun + 60, 900.0, k + 1)]
        traces.append(write(tmp_path, *trace, name=f"window-{window}.json.gz"))
    known = events.captured({"columns": ["step", "start_ns", "end_ns", "window"], "rows": rows})
    found = torch_trace.read(traces, known, "cuda")
    assert (found.device, found.lost, found.left_out) == ("cuda", len(lost), len(lost))
    assert set(found.names) == {"gemm"}
    steps = np.zeros(6, STEP)
    for number, start, end, _ in rows:
        steps[number]["start_ns"], steps[number]["end_ns"], steps[number]["decode_tokens"] = start, end, 1
    facts = PassFacts("kernels", Slowdown(None, None))
    figures = analyse(found.table, found.names, found.ranges, found.device, steps, steps, facts)
    assert figures.idle_share.all == pytest.approx(0.1, abs=0.02)
    assert figures.devices == 1


def test_what_nothing_runs_of_is_no_lost_launch(tmp_path):
    trace = [
        *graph_steps(set(), 0),
        event("cuda_runtime", "cudaLaunchHostFunc_v10000", 100.0, 1.0, correlation=90),
        event("cuda_runtime", "cudaStreamBeginCapture", 1100.0, 1.0, correlation=91),
        event("cuda_runtime", "cudaLaunchKernel", 1102.0, 1.0, correlation=92),  # becomes part of a graph
        event("cuda_runtime", "cudaStreamEndCapture", 1104.0, 1.0, correlation=93),
        event("cuda_driver", "cuLaunchCooperativeKernel", 2100.0, 1.0, correlation=94),
    ]
    rows = [(k, 1000 * k, 1000 * k + 990) for k in range(6)]
    found = torch_trace.read([write(tmp_path, *trace)], captured(*rows), "cuda")
    assert found.lost == 1
    assert found.ranges["step"].tolist() == [0, 1, 3, 4, 5]


def test_on_a_cpu_the_operators_are_what_ran(tmp_path):
    trace = (
        step(0, 100.0, 50.0),
        event("user_annotation", "innerloop/execute", 101.0, 45.0),
        event("cpu_op", "aten::linear", 110.0, 30.0),
        event("cpu_op", "aten::addmm", 112.5, 25.25),
        event("cpu_op", "aten::silu", 120.0, 5.0, OTHER),
    )
    found = torch_trace.read([write(tmp_path, *trace)], captured((0, 100, 150)), "cpu")
    assert found.device == "cpu"
    assert found.table["self_ns"].tolist() == [4_750, 25_250, 5_000]
    assert found.table["step"].tolist() == [0, 0, 0]
    assert [CLASSES[k] for k in found.table["class_"]] == ["gemm", "gemm", "norm_activation"]


def test_the_windows_of_a_pass_are_read_together(tmp_path):
    paths = [
        write(
            tmp_path, step(n, 10.0 * n, 5.0), event("cpu_op", "aten::mm", 10.0 * n + 1, 2.0), name=f"window-{n}.json.gz"
        )
        for n in (1, 2)
    ]
    found = torch_trace.read(paths, captured((1, 10, 15), (2, 20, 25)), "cpu")
    assert found.table["step"].tolist() == [1, 2]
    assert len(found.ranges) == 2


# The time in gzip's head would make the tests' names differ from one process to the next.
TEXTS = (
    *(b"{", b"[]", b"{}", b"[" * 100_000, b"\xff", b'{"traceEvents": [1]}', b'{"traceEvents": [[]]}'),
    b'{"traceEvents": [{"ph": "X", "cat": "user_annotation", "name": 7}]}',
    b'{"traceEvents": [{"ph": "X", "cat": "user_annotation", "name": "innerloop/step 0", "tid": 1, "ts": 1e999}]}',
)
BROKEN = [b"", b"no gzip", gzip.compress(b"{}" * 99, mtime=0)[:-9], *(gzip.compress(text, mtime=0) for text in TEXTS)]


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_that_is_no_trace_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "window-0.json.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="window-0"):
        torch_trace.read([path], captured((0, 1, 2)), "cpu")


def test_no_more_is_unpacked_than_can_be_a_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_trace, "MOST_BYTES", 10_000)
    path = tmp_path / "window-0.json.gz"
    path.write_bytes(gzip.compress(b" " * 10_001, mtime=0))
    with pytest.raises(ValueError, match="it is longer than 10000 bytes; choose fewer steps"):
        torch_trace.read([path], captured((0, 1, 2)), "cpu")
