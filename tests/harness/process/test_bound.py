"""What the harness starts ends with it, and what a worker started ends although its guard was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from innerloop.harness.process import bound, guard
from innerloop.harness.process.bound import MARK, end_group, end_marked, marked, with_parent, writers
from innerloop.harness.process.launcher import Worker
from tests.waiting import PATIENCE_S, gone, until


def test_a_program_ends_with_the_process_that_started_it() -> None:
    code = (
        "import subprocess, sys, time; from innerloop.harness.process.bound import with_parent\n"
        "print(subprocess.Popen(with_parent(['sleep', '600'])).pid, flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    program = psutil.Process(int(starter.stdout.readline()))
    until(lambda: program.name() == "sleep")
    starter.kill()
    starter.communicate()
    until(lambda: not program.is_running())


def test_a_program_whose_starter_has_gone_already_does_nothing() -> None:
    command = with_parent(["touch", "never"])
    place = command.index(str(os.getpid()))
    command[place] = "1" if os.getppid() != 1 else "2"
    assert subprocess.run(command, check=False).returncode == 1
    assert not Path("never").exists()


def test_what_marked_processes_had_in_shared_memory_goes_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "TRACKER_S", PATIENCE_S)
    monkeypatch.setattr(bound, "PATIENCE_S", PATIENCE_S)
    code = (
        "import time; from multiprocessing.shared_memory import SharedMemory\n"
        "kept = SharedMemory(create=True, size=64); print(kept.name, flush=True); time.sleep(600)"
    )
    mark = uuid.uuid4().hex  # other runs of these tests may go on beside this one
    env = {**os.environ, MARK: mark}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    kept = Path("/dev/shm") / process.stdout.readline().strip()
    assert kept.name.startswith("psm_")
    end_group(process.pid)
    end_marked(mark)
    assert process.wait() == -signal.SIGKILL
    assert not kept.exists()


def test_marked_processes_are_ended_whatever_session_they_are_in() -> None:
    mark = uuid.uuid4().hex
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: uuid.uuid4().hex})
    mine = [
        subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: mark}, start_new_session=k > 0) for k in range(3)
    ]
    try:
        until(lambda: marked(mark) == {process.pid for process in mine})
        assert end_marked(mark) >= 3
        assert [process.wait() for process in mine] == [-signal.SIGKILL] * 3
        assert other.poll() is None
    finally:
        for process in (other, *mine):
            process.kill()
            process.wait()


def test_what_computes_and_seems_to_be_a_tracker_is_ended_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "PATIENCE_S", 0.1)
    mark = uuid.uuid4().hex
    program = "# multiprocessing.resource_tracker\nprint(flush=True)\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, MARK: mark}, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert end_marked(mark) == 1
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_is_seen_only_at_the_second_look_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["sleep", "600"])
    looks = iter([set(), {process.pid}, set(), set()])  # it is in the midst of its exec at the first
    monkeypatch.setattr(bound, "marked", lambda _: next(looks))
    assert end_marked("x") == 1
    assert process.wait() == -signal.SIGKILL


HIDDEN = "env -i setsid sleep 600 > /dev/null 2>&1"  # without the environment that has the worker's mark, and its log


@pytest.mark.parametrize(
    ("how", "killed"),
    [("setsid sleep 600", [0, 1]), ("env -i setsid sleep 600", [0, 1]), (HIDDEN, [0]), (HIDDEN, [1])],
)
def test_nothing_outlives_a_worker_whose_guard_was_killed(tmp_path: Path, how: str, killed: list[int]) -> None:
    """One of its two processes, whatever was started; or both of them, as long as what was started has the worker's
    environment or prints into its log."""
    script = tmp_path / "engine.sh"
    script.write_text(
        f"#!/bin/sh\n{how} &\necho $! > child\n"
        f": > /dev/shm/__KMP_REGISTERED_LIB_$$_{os.getuid()}\necho ready > begun\nsleep 600\n"
    )
    script.chmod(0o755)
    (tmp_path / "job.json").write_text("{}")
    worker = Worker(script, tmp_path / "job.json", tmp_path / "engine.log", {})
    try:
        until((tmp_path / "begun").exists)
        child = psutil.Process(int((tmp_path / "child").read_text()))
        guards = [psutil.Process(worker.guard_pid), *psutil.Process(worker.guard_pid).children()]
        [own] = guards[1].children()
        for which in killed:
            guards[which].kill()
    finally:
        worker.close(None)
    assert not Path(f"/dev/shm/__KMP_REGISTERED_LIB_{own.pid}_{os.getuid()}").exists()
    assert gone(child.pid)
    assert gone(own.pid)
    until(lambda: all(gone(one.pid) for one in guards))  # what was left ends the rest first, then itself


def test_what_others_print_into_a_log_is_not_a_workers(tmp_path: Path) -> None:
    """As a user's shell that has redirected something into it; one that is left of a session whose leader has gone may
    be the worker's. A link in the log's place leads to what is nobody's."""
    log, begun_s = tmp_path / "engine.log", time.time()
    script = 'sleep 600 >> "$0" & echo $! > child; exec sleep 600'
    with open(log, "w") as file:
        alone = subprocess.Popen(["sleep", "600"], stdout=file, start_new_session=True)
    reader = subprocess.Popen(["tail", "-f", log], stdout=subprocess.DEVNULL)
    shell = subprocess.Popen(["sh", "-c", script, log], cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    child = tmp_path / "child"
    try:
        until(lambda: child.exists() and bool(child.read_text().strip()))
        redirected = psutil.Process(int(child.read_text()))
        until(lambda: os.path.samefile(f"/proc/{redirected.pid}/fd/1", log))
        assert writers(log, begun_s) == {alone.pid}
        assert writers(log, begun_s + 600) == set()
        shell.kill()
        shell.wait()
        assert writers(log, begun_s) == {alone.pid, redirected.pid}
        log.unlink()
        log.symlink_to(os.devnull)
        assert writers(log, begun_s) == set()
        log.unlink()
        assert writers(log, begun_s) == set()
    finally:
        for process in (alone, reader, shell):
            process.kill()
            process.wait()
        if child.exists():
            os.kill(int(child.read_text()), signal.SIGKILL)
