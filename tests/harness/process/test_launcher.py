from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from innerloop.engines.worker.recorder import Recorder
from innerloop.harness.process import ended, launcher
from innerloop.harness.process.guard import TRACKER_S
from innerloop.harness.process.launcher import Limits, Outcome, Worker
from innerloop.harness.schema.reasons import Failure
from tests.real import ROOT
from tests.waiting import Clock

NS = 1_000_000_000


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The launcher's, which stands still at 1000 s."""
    made = Clock(1000 * NS)
    monkeypatch.setattr(launcher, "time", made)
    return made


def outcome(**phases: int) -> Outcome:
    return Outcome(phases=phases)


def test_loading_may_take_its_time_but_not_more(tmp_path, clock):
    loading = outcome(start=940 * NS, load=941 * NS)
    assert launcher.overdue(loading, tmp_path, Limits(load_s=60), 940.0) is None
    found = launcher.overdue(loading, tmp_path, Limits(load_s=60), 939.9)
    assert found is not None
    assert found.cause == "load_timeout"


def test_silence_counts_from_the_last_sign_of_life(tmp_path, clock):
    one = np.array([1], np.int32)
    recorder = Recorder(tmp_path / "measure", one, one, one)
    stepping = outcome(measure=900 * NS)
    recorder.heartbeat(939 * NS)
    found = launcher.overdue(stepping, tmp_path, Limits(hang_s=60), 1.0)
    assert found is not None
    assert found.cause == "hang"
    assert "for 61 s" in found.message
    recorder.heartbeat(941 * NS)
    assert launcher.overdue(stepping, tmp_path, Limits(hang_s=60), 1.0) is None


def test_a_phase_that_has_just_begun_is_a_sign_of_life_too(tmp_path, clock):
    assert launcher.overdue(outcome(warmup=996 * NS), tmp_path, Limits(hang_s=5), 1.0) is None


def test_the_whole_run_is_bounded_in_every_phase(tmp_path, clock):
    for phase in ("start", "load", "measure", "close"):
        begun = outcome(**{phase: 999 * NS})
        assert launcher.overdue(begun, tmp_path, Limits(total_s=10), 990.0) is None
        found = launcher.overdue(begun, tmp_path, Limits(total_s=10), 989.9)
        assert found is not None
        assert found.cause == "timeout", phase


def test_what_an_end_waits_for_adds_up_to_less_than_ten_seconds():
    """That nothing else takes long is measured by benchmarks/promises.py."""
    assert launcher.GRACE_S + TRACKER_S < launcher.CLEANUP_S
    assert launcher.TICK_S + launcher.CLEANUP_S < 10


@pytest.mark.parametrize(
    ("code", "out_of_memory", "cause", "words"),
    [
        (-signal.SIGKILL, False, "killed_by_signal", "SIGKILL"),
        (-signal.SIGSEGV, False, "killed_by_signal", "SIGSEGV"),
        (-signal.SIGKILL, True, "out_of_memory_host", "out of memory"),
        (-signal.SIGSEGV, True, "killed_by_signal", "SIGSEGV"),
        (7, False, "engine_exception", "exited with code 7"),
        (None, False, "killed_by_signal", "guard"),
    ],
)
def test_a_worker_that_ends_without_a_word_is_read_from_its_exit(code, out_of_memory, cause, words):
    found = ended.ended(code, out_of_memory)
    assert found.cause == cause
    assert words in found.message


def test_variables_of_the_harness_s_interpreter_do_not_reach_the_engine_s(monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.setenv("KEPT", "yes")
    found = launcher.environment({"ENGINE": "1"})
    assert found["KEPT"] == "yes"
    assert found["ENGINE"] == "1"
    assert "VIRTUAL_ENV" not in found
    assert "PYTHONHOME" not in found


def test_devices_are_numbered_as_the_driver_does_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert launcher.environment({})["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert launcher.environment({})["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


@pytest.mark.parametrize(
    ("message", "out_of_memory", "cause"),
    [
        ("vLLM's server was killed by SIGKILL", True, "out_of_memory_host"),
        ("vLLM's server was killed by SIGKILL", False, "killed_by_signal"),
        ("vLLM's server was killed by SIGTERM", True, "killed_by_signal"),
    ],
)
def test_a_process_below_the_worker_that_the_kernel_killed_is_out_of_memory(message, out_of_memory, cause):
    found = ended.explained(Failure("killed_by_signal", message), out_of_memory)
    assert found.cause == cause
    assert found.message.startswith(message)
    assert ("the machine or its container ran out of memory" in found.message) is (cause == "out_of_memory_host")


def test_an_unnamed_signal_has_a_number():
    assert ended.signal_name(40) == "signal 40"


def test_the_checkout_is_no_part_of_the_workers_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:/theirs")
    assert launcher.environment({})["PYTHONPATH"] == "/theirs"


def test_what_can_change_a_measurement_is_kept_and_nothing_private(monkeypatch):
    given = {"OMP_NUM_THREADS": "2", "LD_PRELOAD": "x", "HOME": "/me", "MY_TOKEN": "secret", "VLLM_X": "1", "TM_Y": "2"}
    found = launcher.recorded_variables(given, ("VLLM_",))  # the prefixes of the engine that runs
    assert found == {"LD_PRELOAD": "x", "OMP_NUM_THREADS": "2", "VLLM_X": "1"}


def test_a_step_may_take_longer_on_a_cpu_unless_the_limit_is_given():
    assert Limits().on("cuda").hang_s == 120
    assert Limits().on("cpu").hang_s == 600
    assert Limits(hang_s=5).on("cpu").hang_s == 5


class Hanging:
    """A worker that says that it failed and then never ends."""

    alive = True

    def __init__(self, clock):
        self.clock = clock
        self.said = [{"event": "error", "time_ns": 1, "cause": "engine_exception", "message": "x", "traceback": []}]

    def events(self, wait_s):
        self.clock.sleep(wait_s)
        said, self.said = self.said, []
        return said


def test_an_engine_that_hangs_in_closing_after_a_failure_is_not_waited_for(tmp_path, clock):
    outcome = Outcome()
    launcher.watch(Hanging(clock), [tmp_path], Limits(), lambda outcome: None, outcome)  # type: ignore[arg-type]
    assert launcher.CLOSE_S < clock.monotonic() - 1000 <= launcher.CLOSE_S + 2 * launcher.TICK_S
    assert outcome.failure is not None
    assert outcome.failure.cause == "engine_exception"
    assert any("did not close" in note for note in outcome.notes)


def test_every_phase_is_told_though_several_are_over_when_they_are_heard_of(tmp_path):
    phases = ["import", "load", "warmup", "measure", "close"]

    class Quick:
        alive = True

        def events(self, wait_s):
            told = [{"event": "phase", "time_ns": k, "phase": phase} for k, phase in enumerate(phases, 2)]
            return [
                {"event": "started", "time_ns": 1, "pid": 7}, *told, {"event": "done", "time_ns": 9},
                {"event": "exit", "time_ns": 10, "code": 0, "leftover": 0},
            ]  # fmt: skip

    seen: list[str] = []

    def heard(outcome: Outcome) -> None:
        seen.append(next(reversed(outcome.phases)))

    launcher.watch(Quick(), [tmp_path], Limits(), heard, Outcome())  # type: ignore[arg-type]
    assert seen == ["start", *phases, "done"]


TOOL = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], close_fds=True))"


def test_a_worker_behind_a_tool_is_heard_though_the_tool_closes_what_it_inherits(tmp_path):
    """The job names an engine that there is none of: the worker says so, and goes."""
    job = tmp_path / "job.json"
    load = {"device": "cpu"}
    job.write_text(json.dumps({"engine": "no_such", "load": load, "spawn_ns": 0, "profile": {"under_tool": True}}))
    tool = [sys.executable, "-c", TOOL]
    worker = launcher.Worker(Path(sys.executable), job, tmp_path / "engine.log", {}, tool=tool)
    outcome = Outcome()
    try:
        launcher.watch(worker, [tmp_path / "trace"], Limits(total_s=600), lambda outcome: None, outcome)
    finally:
        worker.close(outcome.worker_pid)
    assert outcome.failure is not None
    assert "no_such" in outcome.failure.message
    assert "done" in outcome.phases
    assert not (tmp_path / launcher.CHANNEL).exists()


def test_a_profiler_s_windows_are_kept_as_they_are_told():
    outcome = Outcome()
    launcher.take({"event": "capture", "time_ns": 5, "open": True, "step": 7}, outcome)
    assert outcome.captures == [{"open": True, "step": 7, "time_ns": 5}]


def test_the_last_word_of_a_guard_that_ends_just_then_is_heard() -> None:
    """Nothing has come when the waiting ends; then the worker's exit code does, and the guard ends."""
    read_fd, write_fd = os.pipe()
    worker = Worker.__new__(Worker)
    worker.alive, worker._control, worker._pending = True, read_fd, b""

    class Late:
        def __init__(self) -> None:
            self.real = selectors.DefaultSelector()
            self.real.register(read_fd, selectors.EVENT_READ)
            self.unregister = self.real.unregister

        def select(self, wait_s: float) -> list[Any]:
            found = self.real.select(0)
            if wait_s:
                os.write(write_fd, b'{"event": "exit", "code": 3}\n')
                os.close(write_fd)
            return found

    worker._selector, worker._guard = cast(Any, Late()), cast(Any, SimpleNamespace(poll=lambda: 0))
    assert worker.events(1.0) == [{"event": "exit", "code": 3}]
    assert worker.alive
    assert worker.events(0) == []
    assert not worker.alive
    os.close(read_fd)


def test_a_worker_that_cannot_be_started_leaves_no_file_open(tmp_path):
    (tmp_path / "job.json").write_text("{}")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        launcher.Worker(Path(sys.executable), tmp_path / "job.json", tmp_path / "none" / "engine.log", {})
    assert os.listdir("/proc/self/fd") == before


def test_a_worker_that_ended_in_time_is_not_late_though_that_is_heard_late(tmp_path, clock):
    """As after Ctrl-Z and fg: the harness stood still while the worker came to its end."""

    class Ended:
        alive = True

        def events(self, wait_s):
            clock.sleep(3600)
            phases = [
                {"event": "phase", "time_ns": 1001 * NS, "phase": "measure"},
                {"event": "done", "time_ns": 1002 * NS},
            ]
            return [*phases, {"event": "exit", "time_ns": 1002 * NS, "code": 0, "leftover": 0}]

    outcome, limits = Outcome(), Limits(hang_s=60, total_s=60)
    launcher.watch(Ended(), [tmp_path], limits, lambda outcome: None, outcome)  # type: ignore[arg-type]
    assert outcome.failure is None


def test_a_program_that_cannot_be_started_is_told_from_a_guard_that_was_killed(tmp_path):
    worker = Worker(tmp_path / "gone", tmp_path / "job.json", tmp_path / "engine.log", {})
    outcome = Outcome()
    try:
        launcher.watch(worker, [tmp_path], Limits(), lambda outcome: None, outcome)
    finally:
        worker.close()
    assert outcome.failure is not None
    assert outcome.failure.cause == "file_error"
    assert outcome.failure.message == f"{tmp_path}/gone could not be started: No such file or directory"
