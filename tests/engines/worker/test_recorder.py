from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.engines.contract import StepReport, WrongTokenCount
from innerloop.engines.worker import trace
from innerloop.engines.worker.recorder import Recorder


def recorder(folder: Path, outputs: list[int], submitted: int | None = None, first_id: int = 0, **kwargs) -> Recorder:
    """A recorder of such requests, of which the first `submitted` (all by default) have been submitted."""
    n = len(outputs)
    prompts, users = np.full(n, 4, np.int32), np.full(n, -1, np.int32)
    made = Recorder(folder, prompts, np.array(outputs, np.int32), users, first_id=first_id, **kwargs)
    for request in range(n if submitted is None else submitted):
        made.submitted(first_id + request, 0, 0)
    return made


def test_what_an_engine_cannot_say_is_missing_and_never_zero(tmp_path):
    rec = recorder(tmp_path / "t", [1])
    rec.step(StepReport(10, 20, [(0, [7])]))
    step = trace.records(tmp_path / "t", "steps")[0]
    numbers = [step[name] for name in step.dtype.names if name.endswith("_tokens") and name != "output_tokens"]
    numbers += [step[f"{phase}_ns"] for phase in trace.PHASES]
    numbers += [step[name] for name in ("running", "waiting", "preempted")]
    assert all(n == trace.MISSING for n in numbers)
    assert np.isnan(step["kv_usage"])


def test_a_step_is_written_field_by_field_as_reported(tmp_path):
    rec = recorder(tmp_path / "t", [9])
    report = StepReport(
        start_ns=1, end_ns=2, tokens=[(0, [5, 6])], prefill_tokens=3, decode_tokens=4, cached_tokens=8,
        drafted_tokens=9, accepted_tokens=10, running=5, waiting=6, preempted=7, kv_usage=0.25, schedule_ns=11,
        prepare_ns=12, execute_ns=13, wait_ns=14, sample_ns=15, update_ns=16,
    )  # fmt: skip
    rec.step(report)
    step = trace.records(tmp_path / "t", "steps")[0]
    for name in step.dtype.names:
        expected = 2 if name == "output_tokens" else getattr(report, name)
        assert step[name] == expected, name


def test_the_last_heartbeat_is_found_while_traces_come_and_go(tmp_path, monkeypatch):
    assert trace.last_beat_ns(tmp_path) is None
    for name, beat_ns in (("warmup", 5), ("measure", 7), ("prime", 9)):
        recorder(tmp_path / name, [1]).heartbeat(beat_ns)
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "steps.bin").write_bytes(b"not yet")
    assert trace.last_beat_ns(tmp_path) == 9
    read = trace.header

    def header(path):
        if path.parent.name == "prime":
            shutil.rmtree(path.parent)
        return read(path)

    monkeypatch.setattr(trace, "header", header)
    assert trace.last_beat_ns(tmp_path) == 7


def test_an_arrival_of_nothing_is_no_first_token(tmp_path):
    rec = recorder(tmp_path / "t", [2])
    rec.step(StepReport(10, 20, [(0, [])]))
    assert trace.records(tmp_path / "t", "requests")["first_token_ns"].tolist() == [-1]
    rec.step(StepReport(20, 30, [(0, [7])]))
    assert trace.records(tmp_path / "t", "requests")["first_token_ns"].tolist() == [30]


def test_requests_are_known_by_ids_that_go_on_where_the_warm_up_ended(tmp_path):
    rec = recorder(tmp_path / "t", [1, 1], first_id=100)
    assert list(rec.step(StepReport(10, 20, [(101, [7])], finished=[101]))) == [101]
    assert trace.records(tmp_path / "t", "tokens")["request"].tolist() == [1]
    assert [trace.STATES[s] for s in trace.records(tmp_path / "t", "requests")["state"]] == ["running", "finished"]


@pytest.mark.parametrize("request_id", [-1, 0, 99, 102, 103])
def test_tokens_for_a_request_that_was_not_submitted_are_found_out(tmp_path, request_id):
    rec = recorder(tmp_path / "t", [1, 1, 1], submitted=1, first_id=100)
    with pytest.raises(WrongTokenCount, match="was not submitted in this window"):
        rec.step(StepReport(10, 20, [(request_id, [7])]))


def test_tokens_may_have_times_of_their_own(tmp_path):
    rec = recorder(tmp_path / "t", [2, 1])
    rec.step(StepReport(10, 20, [(0, [7]), (1, [8])], token_ns=[14, 17]))
    rec.step(StepReport(20, 30, [(0, [7])]))
    assert trace.records(tmp_path / "t", "tokens")["time_ns"].tolist() == [14, 17, 30]
    requests = trace.records(tmp_path / "t", "requests")
    assert requests["first_token_ns"].tolist() == [14, 17]
    assert requests["last_token_ns"].tolist() == [30, 17]


def test_files_grow_past_their_first_size_without_losing_a_record(tmp_path):
    rec = recorder(tmp_path / "t", [30_000, 30_000])
    for k in range(30_000):
        rec.step(StepReport(k, k + 1, [(0, [1]), (1, [1])]))
    steps, tokens = (trace.records(tmp_path / "t", n) for n in ("steps", "tokens"))
    assert steps["end_ns"].tolist() == list(range(1, 30_001))
    assert tokens["step"].tolist() == [k for k in range(30_000) for _ in range(2)]


def test_a_reader_sees_every_record_of_a_writer_that_was_killed(tmp_path):
    code = f"""
import os, signal
from tests.engines.worker.test_recorder import recorder, StepReport
from pathlib import Path
from typing import Any
rec = recorder(Path({str(tmp_path / "t")!r}), [1000])
rec.open_window(5)
for k in range(1000):
    if k == 777:
        os.kill(os.getpid(), signal.SIGKILL)
    rec.step(StepReport(k, k + 1, [(0, [1])]))
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == -signal.SIGKILL
    assert len(trace.records(tmp_path / "t", "steps")) == 777
    assert len(trace.records(tmp_path / "t", "tokens")) == 777
    assert int(trace.header(tmp_path / "t" / "steps.bin")["tokens"]) == 777


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path):
    code = f"""
import resource
from tests.engines.worker.test_recorder import recorder, StepReport
from pathlib import Path
from typing import Any
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rec = recorder(Path({str(tmp_path / "t")!r}), [10_000_000])
resource.setrlimit(resource.RLIMIT_FSIZE, (30 << 20, 30 << 20))
try:
    for k in range(10_000_000):
        rec.step(StepReport(k, k + 1, [(0, [1])]))
except OSError as error:
    print("refused", rec._step_count > 1000)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "refused True", done.stderr
    assert len(trace.records(tmp_path / "t", "steps")) > 1000


def test_token_ids_are_kept_when_asked_for(tmp_path):
    rec = recorder(tmp_path / "t", [2, 3], keep_ids=True)
    rec.step(StepReport(0, 1, [(0, [4]), (1, [5, 6])]))
    rec.step(StepReport(1, 2, [(1, [7]), (0, [8])]))
    rec.close()
    with np.load(tmp_path / "t" / "output_ids.npz", allow_pickle=False) as f:
        assert f["ids"].tolist() == [4, 8, 5, 6, 7]
        assert f["offsets"].tolist() == [0, 2, 5]


def test_a_foreign_file_is_not_taken_for_a_trace(tmp_path):
    (tmp_path / "steps.bin").write_bytes(b"x" * 8192)
    with pytest.raises(ValueError, match="not a trace"):
        trace.records(tmp_path, "steps")


def test_what_the_adapter_spent_on_looking_is_summed_in_the_header(tmp_path):
    rec = recorder(tmp_path / "t", [2])
    rec.step(StepReport(10, 20, [(0, [7])], observer_ns=30))
    rec.step(StepReport(20, 30, [(0, [7])], observer_ns=12))
    assert int(trace.header(tmp_path / "t" / "steps.bin")["observer_ns"]) == 42


def test_pauses_for_garbage_are_counted_summed_and_the_longest_kept(tmp_path):
    rec = recorder(tmp_path / "t", [1])
    for spent in (5, 9, 7):
        rec.paused(spent)
    head = trace.header(tmp_path / "t" / "steps.bin")
    assert (int(head["gc_pauses"]), int(head["gc_ns"]), int(head["gc_longest_ns"])) == (3, 21, 9)


def test_a_trace_has_room_for_its_workload_and_a_growth_is_counted(tmp_path, monkeypatch):
    chunk = 1 << 20
    rec = recorder(tmp_path / "whole", [70_000])
    assert rec.tokens.capacity >= 70_000
    assert rec.steps.capacity >= 70_000
    monkeypatch.setattr("innerloop.engines.worker.recorder.MOST_TOKENS", 10)
    few = recorder(tmp_path / "few", [70_000])
    assert few.tokens.capacity == (chunk - trace.HEADER_BYTES) // trace.TOKEN.itemsize  # one chunk
    for k in range(few.tokens.capacity + 1):
        few.step(StepReport(k, k + 1, [(0, [7])]))
    assert int(trace.header(tmp_path / "few" / "steps.bin")["growths"]) == 1
    assert int(trace.header(tmp_path / "whole" / "steps.bin")["growths"]) == 0


@pytest.mark.slow
def test_a_growth_takes_a_bounded_part_of_the_disk(tmp_path, monkeypatch):
    chunk = 1 << 20
    monkeypatch.setattr("innerloop.engines.worker.recorder.MOST_TOKENS", 3 * chunk // trace.TOKEN.itemsize)
    monkeypatch.setattr("innerloop.engines.worker.recorder.MOST_MORE", 1000)
    rec = recorder(tmp_path / "t", [1_000_000])
    before = (tmp_path / "t" / "tokens.bin").stat().st_size
    for k in range(rec.tokens.capacity + 1):
        rec.step(StepReport(k, k + 1, [(0, [7])]))
    assert (tmp_path / "t" / "tokens.bin").stat().st_size == before + chunk


def test_pages_are_had_in_memory_also_where_the_kernel_cannot_do_it_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("innerloop.engines.worker.recorder.MADV_POPULATE_WRITE", 9999)
    rec = recorder(tmp_path / "t", [1])
    rec.step(StepReport(10, 20, [(0, [7])]))
    assert trace.records(tmp_path / "t", "steps")["output_tokens"].tolist() == [1]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_trace_that_is_no_file_is_not_waited_for(make: Any, tmp_path: Path) -> None:
    (tmp_path / "measure").mkdir()
    make(tmp_path / "measure" / "steps.bin")
    assert trace.last_beat_ns(tmp_path) is None
    with pytest.raises(ValueError, match="not a regular file"):
        trace.header(tmp_path / "measure" / "steps.bin")
