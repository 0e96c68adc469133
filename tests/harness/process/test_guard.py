from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from innerloop.harness.process import guard as guard_module
from innerloop.harness.process.guard import TEMPORARY, lives, sleeps, tracks
from tests.waiting import PATIENCE_S, gone, until

GUARD = Path(__file__).parents[3] / "harness" / "process" / "guard.py"

# A worker with a child of its own and a grandchild that has left both its group and its parent, as daemons do.
WORKER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
orphan = subprocess.run([sys.executable, "-c",
    "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True).pid)"],
    capture_output=True, text=True).stdout
{first}
os.write(int(sys.argv[1]), f"{os.getpid()} {child.pid} {orphan}".encode())
{then}
"""


def guard_with(**seconds: float) -> str:
    """The guard with other times: what ends by itself may take longer than usual on a busy machine."""
    return f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("guard", {str(GUARD)!r})
guard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)
vars(guard).update({seconds!r})
sys.exit(guard.main())
"""


PATIENT = guard_with(SETTLE_S=PATIENCE_S, TRACKER_S=PATIENCE_S)


class Started:
    def __init__(self, then: str, first: str, grace_s: float) -> None:
        self.read_fd, write_fd = os.pipe()
        worker = [sys.executable, "-c", WORKER.replace("{first}", first).replace("{then}", then), str(write_fd)]
        self.guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(write_fd), str(grace_s), "--", *worker],
            stdin=subprocess.PIPE,
            pass_fds=[write_fd],
            start_new_session=True,
        )
        os.close(write_fd)
        self.pids = [int(p) for p in os.read(self.read_fd, 4096).split()]
        assert len(self.pids) == 3

    def last_word(self) -> dict:
        self.guard.wait(PATIENCE_S)
        return json.loads(os.read(self.read_fd, 4096))

    def check_gone(self) -> None:
        until(lambda: all(gone(pid) for pid in self.pids))


@pytest.fixture
def start():
    started: list[Started] = []

    def make(then: str, first: str = "pass", grace_s: float = PATIENCE_S) -> Started:
        started.append(Started(then, first, grace_s))
        return started[-1]

    yield make
    for s in started:
        for pid in (s.guard.pid, *s.pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        s.guard.wait()


def test_a_worker_that_ends_takes_what_it_left_behind_with_it(start):
    run = start("sys.exit(3)")
    assert run.last_word() | {"time_ns": 0} == {"event": "exit", "time_ns": 0, "code": 3, "leftover": 2}
    run.check_gone()


def test_closing_the_guards_input_ends_everything(start):
    run = start("time.sleep(600)")
    assert not any(gone(pid) for pid in run.pids)
    run.guard.stdin.close()
    assert run.last_word()["code"] == -signal.SIGTERM
    run.check_gone()


def test_a_worker_that_is_stopped_and_deaf_to_sigterm_is_killed(start):
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    run = start("os.kill(os.getpid(), signal.SIGSTOP)", first=deaf, grace_s=0.3)
    run.guard.stdin.close()
    assert run.last_word()["code"] == -signal.SIGKILL
    run.check_gone()


def test_a_worker_whose_first_guard_was_killed_does_not_report_its_end_as_a_failure(start):
    """An engine that handles SIGTERM would say that it was told to exit, as if it had failed by itself."""
    told = "import signal; signal.signal(signal.SIGTERM, lambda *_: os.write(int(sys.argv[1]), b'told'))"
    run = start("time.sleep(600)", first=told)
    run.guard.kill()
    run.check_gone()
    assert os.read(run.read_fd, 4096) == b""  # until both guards have ended, too


INHERITS = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_guard_hears_of_its_workers_end_whatever_signals_it_has_inherited():
    """Ignored, as some daemons leave them, or blocked, as programs that wait for theirs have them."""
    read_fd, write_fd = os.pipe()
    own = ["-I", "-S", str(GUARD), str(write_fd), "0.3", "--", sys.executable, "-c", "import sys; sys.exit(3)"]
    guard = subprocess.Popen(
        [sys.executable, "-c", INHERITS, *own],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[write_fd],
        start_new_session=True,
    )
    os.close(write_fd)
    try:
        assert guard.wait(PATIENCE_S) == 0
        assert guard.stderr is not None
        assert guard.stderr.read() == b""
        assert json.loads(os.read(read_fd, 4096))["code"] == 3
    finally:
        os.close(read_fd)
        if guard.poll() is None:
            os.killpg(guard.pid, signal.SIGKILL)
        guard.communicate()


def test_interrupts_meant_for_the_harness_do_not_reach_the_worker(start):
    run = start("time.sleep(600)")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        run.guard.send_signal(number)
    time.sleep(0.5)
    assert run.guard.poll() is None
    assert not any(gone(pid) for pid in run.pids)


def test_what_ends_by_itself_just_after_the_worker_is_not_counted_as_left_behind():
    """As multiprocessing's resource tracker does: it ends when the worker's end of its pipe is closed."""
    worker = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import sys, time; sys.stdin.read(); time.sleep(0.05)'],"
        " stdin=subprocess.PIPE)\n"
    )
    read_fd, write_fd = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PATIENT, str(write_fd), "0.3", "--", sys.executable, "-c", worker],
        stdin=subprocess.PIPE,
        pass_fds=[write_fd],
        start_new_session=True,
    )
    os.close(write_fd)
    guard.wait(PATIENCE_S)
    last = json.loads(os.read(read_fd, 4096))
    os.close(read_fd)
    assert (last["code"], last["leftover"]) == (0, 0)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "time.sleep(600)"])
def test_what_a_killed_worker_had_in_shared_memory_goes_with_it(end):
    """Its resource tracker removes it, where that is not killed with all else."""
    worker = (
        "import os, signal, time\nfrom multiprocessing.shared_memory import SharedMemory\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"kept = SharedMemory(create=True, size=64)\nprint(kept.name, flush=True)\n{end}"
    )
    read_fd, write_fd = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PATIENT, str(write_fd), "0.3", "--", sys.executable, "-c", worker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[write_fd],
        start_new_session=True,
    )
    os.close(write_fd)
    assert guard.stdin is not None
    assert guard.stdout is not None
    kept = Path("/dev/shm") / guard.stdout.readline().decode().strip()
    guard.stdin.close()
    guard.wait(PATIENCE_S)
    last = json.loads(os.read(read_fd, 4096))
    assert (last["code"], last["leftover"]) == (-signal.SIGKILL, 0), "the tracker ended by itself"
    os.close(read_fd)
    assert kept.name.startswith("psm_")
    assert not kept.exists()


# A resource tracker that computes for a second once the worker has gone, and then says that it is done.
TRACKER = (
    "# multiprocessing.resource_tracker\n"
    "import os, sys, time\nos.write(1, b'.')\nsys.stdin.read()\nstarted = time.process_time()\n"
    "while time.process_time() - started < {seconds}: pass\n"
    "open('done', 'w').close()"
)


@pytest.mark.parametrize(("longest_s", "seconds", "killed"), [(PATIENCE_S, 1, 0), (0.3, 600, 1)])
def test_a_tracker_that_computes_is_left_to_it_for_long(tmp_path, longest_s, seconds, killed):
    """However long that takes on a busy machine; how long one may sleep is nothing here."""
    tracker = [sys.executable, "-c", TRACKER.format(seconds=seconds)]
    worker = (
        "import os, signal, subprocess\n"
        f"tracker = subprocess.Popen({tracker}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "tracker.stdout.read(1)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    program = guard_with(SETTLE_S=0, TRACKER_S=0.1, LONGEST_S=longest_s)
    read_fd, write_fd = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program, str(write_fd), "0.3", "--", sys.executable, "-c", worker],
        stdin=subprocess.PIPE,
        pass_fds=[write_fd],
        start_new_session=True,
        cwd=tmp_path,
    )
    os.close(write_fd)
    guard.wait(PATIENCE_S)
    last = json.loads(os.read(read_fd, 4096))
    os.close(read_fd)
    assert (last["code"], last["leftover"]) == (-signal.SIGKILL, killed)
    assert (tmp_path / "done").exists() == (killed == 0)


def test_a_process_that_computes_or_has_ended_does_not_sleep():
    waiting, computing, ended = (
        subprocess.Popen(command)
        for command in (["sleep", "600"], [sys.executable, "-c", "while True: pass"], ["true"])
    )
    try:
        until(lambda: sleeps(waiting.pid))
        until(lambda: not lives(str(ended.pid)))
        assert not sleeps(ended.pid)
        until(lambda: not sleeps(computing.pid))
        computing.send_signal(signal.SIGSTOP)
        until(lambda: sleeps(computing.pid))
    finally:
        for process in (waiting, computing, ended):
            process.kill()
            process.wait()


def test_a_process_without_a_command_line_yet_may_become_a_tracker():
    """One that has ended has none either, as in the midst of an exec."""
    ended, other = subprocess.Popen(["true"]), subprocess.Popen(["sleep", "600"])
    try:
        until(lambda: not lives(str(ended.pid)))
        until(lambda: not tracks(other.pid))
        assert tracks(ended.pid)
    finally:
        other.kill()
        for process in (ended, other):
            process.wait()


def guarded(worker: str, folder: Path) -> subprocess.Popen[bytes]:
    """The guard of a worker, both in a folder."""
    own = [sys.executable, "-I", "-S", str(GUARD), "1", "0.3", "--"]
    return subprocess.Popen(
        [*own, sys.executable, "-c", worker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("temporary", "harness_goes", "left"), [(True, True, False), (True, False, True), (False, True, True)]
)
def test_a_temporary_folder_goes_with_the_harness(temporary, harness_goes, left, tmp_path):
    folder = tmp_path / "measured"
    (folder / "inside").mkdir(parents=True)
    if temporary:
        (folder / TEMPORARY).touch()
    guard = guarded("print('runs', flush=True)" + ("; import time; time.sleep(600)" if harness_goes else ""), folder)
    assert guard.stdin is not None
    assert guard.stdout is not None
    assert guard.stdout.readline() == b"runs\n"
    if harness_goes:
        guard.stdin.close()
    guard.wait(PATIENCE_S)
    assert folder.exists() is left
    guard.stdin.close()
    guard.stdout.close()


def test_what_libiomp_leaves_of_a_process_that_is_gone_is_removed_and_no_other(tmp_path):
    user, nobody = os.getuid(), 2**30  # no process has that number
    before, lives = (Path(f"/dev/shm/__KMP_REGISTERED_LIB_{pid}_{user}") for pid in (nobody, os.getpid()))
    worker = (
        "import os, pathlib\n"
        f"name = f'/dev/shm/__KMP_REGISTERED_LIB_{{os.getpid()}}_{user}'\n"
        f"[pathlib.Path(path).touch() for path in (name, '{lives}')]\n"
        "print(name, flush=True)\n"
        "os._exit(0)"
    )
    try:
        before.touch()
        os.utime(before, (1, 1))
        guard = guarded(worker, tmp_path)
        assert guard.stdout is not None
        name = guard.stdout.readline().decode().strip()
        guard.wait(PATIENCE_S)
        assert not Path(name).exists()
        assert before.exists()
        assert lives.exists()
        guard.communicate()
    finally:
        before.unlink(missing_ok=True)
        lives.unlink(missing_ok=True)


@pytest.mark.parametrize(("older_s", "left"), [(0.005, False), (0.5, True)])
def test_a_file_of_the_tick_before_is_as_young(tmp_path, monkeypatch, older_s, left):
    monkeypatch.setattr(guard_module, "SHARED", str(tmp_path))
    kept = tmp_path / f"__KMP_REGISTERED_LIB_{2**30}_{os.getuid()}"
    kept.touch()
    os.utime(kept, (100.0 - older_s, 100.0 - older_s))
    guard_module.unregister(100.0)
    assert kept.exists() is left
