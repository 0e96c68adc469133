"""Whatever happens to a run ends it, leaves no process, and says what it was: real processes, the scripted engine.

test_failures_real.py has one such case for each real engine. That ending takes no more than ten seconds is measured by
benchmarks/promises.py.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from innerloop.engines.worker import trace
from innerloop.harness.run import main
from tests.real import LONG, ROOT, Going, check_failed, command, guards, shown_later, start_long, variables
from tests.waiting import until

pytestmark = pytest.mark.slow

SCRIPTED = ROOT / "tests" / "plugins" / "scripted"
SLOW = ("--engine-arg", "step_us=3000")  # so that a run of half a million steps goes on while it is looked at
FEW = """\
prompt: {tokens: 8}
output: {tokens: 6}
load: {kind: offline, requests: 8}
warmup: {requests: 4, output_tokens: 4, max_rounds: 0}
"""


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[Callable[..., Going]]:
    started: list[Going] = []

    def make(*arguments: object) -> Going:
        started.append(start_long(SCRIPTED, tmp_path / "run", *SLOW, *arguments))
        started[-1].until_measuring()
        return started[-1]

    yield make
    for going in started:
        going.end()


def test_a_killed_worker_is_named_as_such(long_run):
    going = long_run()
    going.worker().kill()
    result = check_failed(going, "killed_by_signal", 3)
    assert "SIGKILL" in result["failure"]["message"]
    assert result["failure"]["exit"] == -signal.SIGKILL


def test_a_stopped_worker_is_a_hang(long_run):
    going = long_run("--hang-timeout", 5)
    going.worker().suspend()
    result = check_failed(going, "hang", 3)
    assert "--hang-timeout 5" in result["failure"]["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_harness_ends_the_run_says_so_and_dies_of_the_signal(long_run, number):
    going = long_run()
    going.harness.send_signal(number)
    result = check_failed(going, "interrupted", -number)
    assert number.name in result["failure"]["message"]


def test_a_terminal_that_goes_ends_the_run_and_keeps_what_was_measured(tmp_path):
    """As when a connection breaks: SIGHUP, and a stdout and stderr that take nothing any more."""
    workload, folder = tmp_path / "long.yaml", tmp_path / "run"
    workload.write_text(LONG)
    arguments = ("--engine", SCRIPTED, "--workload", workload, "--out", folder, "--set", "max_batch_size=8")
    words = command(*arguments, "--ceilings", "off", *SLOW)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(words[0], words, variables())
    try:
        os.set_blocking(terminal, False)

        def measures() -> bool:
            with suppress(BlockingIOError):
                os.read(terminal, 1 << 16)
            try:
                return len(trace.records(folder / "trace" / "measure", "steps")) >= 5
            except (OSError, ValueError):
                return False

        until(measures)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGHUP
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "interrupted"
    assert "SIGHUP" in result["failure"]["message"]
    assert result["counts"]["steps"] >= 5


def test_nothing_outlives_a_killed_harness_and_its_records_can_be_shown(long_run):
    going = long_run()
    going.harness.kill()
    going.until_gone()
    assert not (going.folder / "result.json").exists()
    result = shown_later(going.folder)
    assert result["failure"]["cause"] == "interrupted"
    assert result["counts"]["output_tokens"] > 0
    assert result["counts"]["steps"] >= 5


@pytest.mark.parametrize("which", [0, 1])
def test_a_killed_guard_takes_the_worker_with_it(long_run, which):
    going = long_run()
    guards(going.harness.pid)[which].kill()
    result = check_failed(going, "killed_by_signal", 3)
    assert result["failure"]["message"] == "the worker's guard process was killed"


def test_interrupted_before_the_engine_is_loaded(tmp_path):
    going = start_long(SCRIPTED, tmp_path / "run", "--engine-arg", "fault=slow_load")
    try:
        until((tmp_path / "run" / "engine.log").exists)
        going.members = psutil.Process(going.harness.pid).children(recursive=True)
        going.harness.send_signal(signal.SIGINT)
        going.until_gone()
        assert going.harness.returncode == -signal.SIGINT
        assert going.result()["failure"]["cause"] == "interrupted"
    finally:
        going.end()


# ---------------------------------------------------------------- what an engine does by itself


@pytest.fixture
def ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """ended(arguments, code=3): the result of a short run that is over, the harness being this process; nothing below
    it is left."""
    mark = f"innerloop-test-{os.getpid()}-{tmp_path.name}"
    monkeypatch.setenv("INNERLOOP_TEST_MARK", mark)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.yaml").write_text(FEW)
    fixed = ("--engine", str(SCRIPTED), "--workload", "few.yaml", "--out", "run", "--json", "--ceilings", "off")

    def run_here(*arguments: str, code: int = 3) -> dict[str, Any]:
        assert main([*fixed, *arguments]) == code
        assert marked(mark) == []
        result = json.loads(capsys.readouterr().out)
        assert result == json.loads((tmp_path / "run" / "result.json").read_text())
        return result

    return run_here


def marked(mark: str) -> list[list[str]]:
    """The command lines of the processes that carry the mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("INNERLOOP_TEST_MARK") == mark:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def fault(kind: str, **more: object) -> list[str]:
    return [word for name, value in {"fault": kind, **more}.items() for word in ("--engine-arg", f"{name}={value}")]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (fault("raise", fault_step=4), "engine_exception"),
        ([*fault("raise", fault_step=2), "--workload-arg", "warmup.max_rounds=1"], "engine_exception"),
        (fault("raise", fault_at="load"), "engine_exception"),
        (fault("raise", fault_at="import"), "engine_exception"),
        (fault("segfault", fault_step=4), "killed_by_signal"),
        (fault("kill", fault_step=4), "killed_by_signal"),
        (fault("segfault", fault_at="load"), "killed_by_signal"),
        (fault("oom_device", fault_step=4), "out_of_memory_device"),
        (fault("oom_host", fault_step=4), "out_of_memory_host"),
        (fault("miscount_short", fault_step=4), "wrong_token_count"),
        (fault("miscount_long", fault_step=4), "wrong_token_count"),
        (fault("unknown_id", fault_step=4), "wrong_token_count"),
        (fault("lost_work", fault_step=4), "wrong_token_count"),
        (fault("surplus", fault_step=4), "wrong_token_count"),
        ([*fault("hang", fault_step=4), "--hang-timeout", "4"], "hang"),
        ([*fault("hang_ignoring_signals", fault_step=4), "--hang-timeout", "4"], "hang"),
        ([*fault("hang", fault_at="load"), "--load-timeout", "1"], "load_timeout"),
        ([*fault("slow_load"), "--timeout", "1"], "timeout"),
        (fault("children_then_kill", fault_step=4), "killed_by_signal"),
    ],
    ids=lambda value: " ".join(value[1::2]) if isinstance(value, list) else "",
)
def test_what_an_engine_does_is_named_by_its_cause(ended, arguments, cause):
    result = ended(*arguments)
    assert result["status"] == "failed"
    assert result["failure"]["cause"] == cause
    assert [reason["code"] for reason in result["reasons"]] == [cause]


@pytest.mark.parametrize(("kib", "code"), [(1, 2), (300, 3)])
def test_a_limit_on_files_refuses_the_run_or_is_its_cause_once_the_worker_runs(kib, code, tmp_path):
    """1 KiB is too little for the requests, 300 KiB for the trace, whose files have 1 MiB."""
    (tmp_path / "few.yaml").write_text(FEW)
    fixed = ("--engine", SCRIPTED, "--workload", tmp_path / "few.yaml", "--out", tmp_path / "run", "--ceilings", "off")
    limited = ["bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", *command(*fixed)]
    done = subprocess.run(limited, cwd=tmp_path, env=variables(), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code == 2:
        assert "nothing was started" in done.stderr
        assert "File too large" in done.stderr
        assert not (tmp_path / "run").exists()
    else:
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        assert result["failure"]["cause"] == "file_error"
        assert "File too large" in result["failure"]["message"]


def test_an_engines_exception_keeps_its_traceback_and_its_records(ended, tmp_path):
    result = ended(*fault("raise", fault_step=4))
    assert any("raise Intended" in line for line in result["failure"]["traceback"])
    assert result["counts"]["steps"] > 0
    assert (tmp_path / "run" / "steps.parquet").exists()


def test_a_process_that_leaves_in_the_middle_is_no_result(ended):
    assert ended(*fault("exit", fault_step=4))["status"] == "failed"


def test_children_in_sessions_of_their_own_are_swept(ended):
    result = ended(*fault("children", fault_step=4), code=0)
    assert result["failure"] is None


def test_an_engine_that_cannot_be_closed_still_has_its_result(ended):
    result = ended(*fault("close_raises"), code=0)
    assert result["counts"]["finished"] == 8
    assert any("closing the engine failed" in note for note in result["notes"])


def test_what_an_engine_prints_is_in_its_log_and_not_in_the_document(ended, tmp_path):
    result = ended(*fault("noise_on_stdout", fault_step=4), code=0)
    assert result["counts"]["finished"] == 8
    assert (tmp_path / "run" / "engine.log").stat().st_size > 0
