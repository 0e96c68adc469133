"""The pass around its worker, whose part is played here: what it leaves behind, or how it fails."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.cli.signals import Stopped, stop_signals
from innerloop.harness.process.launcher import Limits, Outcome
from innerloop.harness.profiling import tools
from innerloop.harness.profiling.choice import choose
from innerloop.harness.result import build as results
from innerloop.harness.result.exit_code import exit_code
from innerloop.harness.result.record import Record
from innerloop.harness.schema.common import CountByStepKind
from innerloop.harness.schema.profiling import Captured, Slowdown
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.session import passes, verify
from innerloop.harness.store import result_file
from innerloop.harness.store.tables import convert
from tests.harness.conftest import MS, offline_run, write_raw

KERNELS: Any = choose("kernels", None)


def trace_of(steps: np.ndarray, numbers: range) -> dict[str, Any]:
    """A trace of torch's profiler in which each of those steps runs one operator for half of its time."""
    made = []
    for number in numbers:
        start, end = (int(steps[name][number]) / 1000 for name in ("start_ns", "end_ns"))
        common = {"ph": "X", "pid": 7, "tid": 7, "args": {}}
        made.append(
            {**common, "cat": "user_annotation", "name": f"innerloop/step {number}", "ts": start, "dur": end - start}
        )
        made.append({**common, "cat": "cpu_op", "name": "aten::mm", "ts": start, "dur": (end - start) / 2})
    return {"traceEvents": made}


def play(folder: Path, outcome: Outcome, numbers: range = range(3)) -> None:
    """What a pass's worker leaves behind that captured those steps of `offline_run`."""
    folder.mkdir()
    made = offline_run()
    for part, rows in made.items():
        write_raw(folder / "trace" / "measure" / f"{part}.bin", rows)
    calls = [[n, int(made["steps"]["start_ns"][n]), int(made["steps"]["end_ns"][n]), 0] for n in numbers]
    (folder / "captured.json").write_text(
        json.dumps({"columns": ["step", "start_ns", "end_ns", "window"], "rows": calls})
    )
    with gzip.open(folder / "window-0.json.gz", "wt") as file:
        json.dump(trace_of(made["steps"], numbers), file)
    outcome.worker_pid = 4242
    outcome.phases = {"start": 1, "done": 2}


@pytest.fixture
def measured(run_folder, spec, reported):
    """(result, folder) of a measured run."""
    folder = run_folder()
    result = results.build(Record(spec=spec, workload_hash="abc123", tables=convert(folder), reported=reported))
    result_file.write(folder, result)
    return result, folder


@pytest.fixture
def add(measured, monkeypatch):
    """add(run): adds a pass that `run(folder, outcome)` plays; returns the result as it then lies on disk."""

    def make(run, profile=KERNELS, result=None) -> Result:
        folder = measured[1]
        monkeypatch.setattr(passes.Pass, "run", lambda self, outcome: run(self.folder, outcome))
        place = passes.Place(Path("/env/bin/python"), {}, folder)
        with stop_signals() as held, held.released():
            passes.add(profile, "cpu", place, Limits(), (result or measured[0], 1717), PlainConsole(quiet=True))
        return result_file.read(folder)

    return make


def test_a_pass_adds_its_findings_and_leaves_the_measured_figures_alone(add, measured):
    before = result_file.read(measured[1])
    after = add(play)
    assert replace(after, profiling=None, kernels=None) == before
    assert before.profiling is None
    assert before.kernels is None
    about, found = after.profiling, after.kernels
    assert about.failure is None
    assert about.captured == Captured(CountByStepKind(3, 1, 2), ((0, 3),))
    assert (about.worker_pid, about.measured_worker_pid) == (4242, 1717)
    assert about.slowdown == Slowdown(1.0, 1.0)
    assert about.command.startswith("/env/bin/python ")
    assert found.busy_s_per_step.all == pytest.approx(0.0195)
    assert found.classes["all"]["gemm"].ns == found.total_ns.all == 3 * 39 * MS // 2
    assert found.estimate.busy_s == pytest.approx(50 * 0.0195)  # half of the measured steps' wall time
    assert (measured[1] / "profile-kernels" / "kernels.parquet").exists()


def test_a_pass_that_fails_is_told_and_nothing_else_changes(add, measured):
    def fail(folder: Path, outcome: Outcome) -> None:
        folder.mkdir()
        (folder / "engine.log").write_text("the profiler's last words\n")
        outcome.failure = Failure("engine_exception", "no CUPTI")

    result = add(fail)
    assert (result.status, result.failure) == (measured[0].status, None)
    assert result.profiling.failure.message == "no CUPTI"
    assert result.profiling.failure.log_tail == ("the profiler's last words",)
    assert result.kernels is None
    assert exit_code(result) == 0


def test_a_pass_that_captured_nothing_says_so(add):
    result = add(lambda folder, outcome: play(folder, outcome, range(0)))
    assert "no steps matched" in result.profiling.failure.message
    assert "--profiler-steps" in result.profiling.failure.message


def test_a_broken_profile_is_a_failed_pass(add):
    def broken(folder: Path, outcome: Outcome) -> None:
        play(folder, outcome)
        (folder / "window-0.json.gz").write_bytes(b"cut off")

    result = add(broken)
    assert result.profiling.failure.cause == "profile"
    assert result.kernels is None


def test_an_interrupted_pass_keeps_the_measured_run_and_its_exit_code_says_so(add):
    def interrupted(folder: Path, outcome: Outcome) -> None:
        folder.mkdir()
        signal.raise_signal(signal.SIGINT)

    result = add(interrupted)
    assert result.failure is None
    assert result.profiling.failure.cause == "interrupted"
    assert exit_code(result) == 130


def test_after_a_failed_run_there_is_nothing_to_profile(add, measured):
    failed = replace(measured[0], failure=Failure("engine_exception", "it broke"))
    result = add(lambda folder, outcome: pytest.fail("a pass was started"), result=failed)
    assert "the measured run failed" in result.profiling.failure.message


def test_the_pass_s_job_is_the_measured_one_with_a_folder_of_its_own(measured):
    folder = measured[1]
    job = json.loads((folder / "job.json").read_text())
    job |= {
        "workload": str(folder / "workload.npz"),
        "trace": str(folder / "trace"),
        "warmup": {"rule": {"max_rounds": 9}},
    }
    (folder / "job.json").write_text(json.dumps(job))
    one = passes.Pass(KERNELS, passes.Place(Path("python"), {}, folder), Limits(), PlainConsole(quiet=True))
    one.folder.mkdir()
    made = json.loads(one.write_job().read_text())
    assert (made["workload"], made["workload_hash"]) == (job["workload"], job["workload_hash"])
    assert made["trace"] == str(folder / "profile-kernels" / "trace")
    assert made["profile"]["batch"] == [8, 8]
    assert made["profile"]["kind"] == "kernels"
    assert not made["profile"]["under_tool"]
    assert json.loads((folder / "job.json").read_text()) == job


def test_the_worker_is_ended_also_where_a_signal_cuts_the_end_of_py_spy_short(measured, monkeypatch):
    closed: list[Any] = []
    monkeypatch.setattr(passes, "Worker", lambda *_, **__: SimpleNamespace(close=closed.append))
    monkeypatch.setattr(passes.Pass, "write_job", lambda self: self.folder / "job.json")

    def stop() -> None:
        raise Stopped(signal.SIGINT)

    def watch(worker: Any, traces: list[Path], limits: Limits, tick: Any, outcome: Outcome) -> None:
        outcome.worker_pid = 4242
        tick.__self__._sampling = SimpleNamespace(stop=stop)

    monkeypatch.setattr(passes.launcher, "watch", watch)
    one = passes.Pass(KERNELS, passes.Place(Path("python"), {}, measured[1]), Limits(), PlainConsole(quiet=True))
    with pytest.raises(Stopped):
        one.run(Outcome())
    assert closed == [4242]


def spec_on(device: str) -> Any:
    return SimpleNamespace(device=device)


def test_nsys_is_refused_where_nothing_runs_on_a_gpu(tmp_path):
    with pytest.raises(Refused, match="CUDA kernels"):
        passes.check(choose("nsys", None), spec_on("cpu"), tmp_path)  # type: ignore[arg-type]


def test_a_missing_nsys_is_refused_with_the_whole_command_to_run_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "find", lambda tool: None)
    monkeypatch.setattr(passes, "interpreter", lambda spec: Path("/env/bin/python"))
    with pytest.raises(Refused) as refusal:
        passes.check(choose("nsys", "200:260"), spec_on("cuda"), tmp_path / "run")  # type: ignore[arg-type]
    command = refusal.value.details[-1]
    assert command.startswith("nsys profile --trace=cuda,nvtx,osrt")
    assert f"--output={tmp_path}/run/profile-nsys/report" in command
    checkout = Path(passes.__file__).resolve().parents[2]
    assert f"/env/bin/python {checkout}/engines {tmp_path}/run/profile-nsys/job.json 1" in command


@pytest.mark.parametrize("part", ["pass", "verification"])
def test_what_follows_a_run_runs_on_its_cpus(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass beside `--cpus` had all of them: other threads, other times, other kernels than the run that it is of."""
    started: list[set[int]] = []

    class Worker:
        def __init__(self, *_: Any, **__: Any) -> None:
            started.append(os.sched_getaffinity(0))
            raise InnerloopError("enough")

    before, outcome = os.sched_getaffinity(0), Outcome()
    one = min(before)
    work: Callable[[], object]
    if part == "pass":
        monkeypatch.setattr(passes, "Worker", Worker)
        monkeypatch.setattr(passes.Pass, "write_job", lambda self: tmp_path / "job.json")
        place = passes.Place(Path(sys.executable), {}, tmp_path, (one,))
        work = lambda: passes.Pass(KERNELS, place, Limits(), PlainConsole()).run(outcome)  # noqa: E731
    else:
        monkeypatch.setattr(verify, "Worker", Worker)
        monkeypatch.setattr(verify.Verifying, "write_jobs", lambda self, few: tmp_path / "job.json")
        inputs: Any = SimpleNamespace(folder=tmp_path, options=SimpleNamespace(cpus=(one,)))
        environment = SimpleNamespace(python=Path(sys.executable), variables={})
        prepared: Any = SimpleNamespace(environment=environment)
        checking = verify.Verifying(inputs, prepared, PlainConsole())
        work = lambda: checking.answers(np.arange(1), outcome)  # noqa: E731
    with pytest.raises(InnerloopError, match="enough"):
        work()
    assert started == [{one}]
    assert os.sched_getaffinity(0) == before
