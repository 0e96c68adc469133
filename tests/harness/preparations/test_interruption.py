"""Nothing of a preparation outlives the harness, however that ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.harness.preparations.toys import checkpoint_in
from tests.real import ROOT
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.slow

# A command with a child that has left its session and its parent, as daemons do; both say who they are.
COMMAND = """
import os, pathlib, subprocess, sys, time
orphan = subprocess.run([sys.executable, "-c",
    "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True).pid)"],
    capture_output=True, text=True).stdout
pathlib.Path(sys.argv[1], "half").write_text("made")
part = pathlib.Path(sys.argv[2] + ".part")
part.write_text(f"{os.getpid()} {orphan}")
part.rename(sys.argv[2])
time.sleep(600)
"""
HARNESS = """
import json, sys
from pathlib import Path
from innerloop.engines.contract import Preparation
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.preparations import prepare_all
from tests.harness.preparations.toys import ToyAdapter, load_of, machine, own_environment

told = json.loads(sys.argv[1])
wanted = Preparation("model", ("-c", told["command"], "{output}", told["pids"]))

def work() -> int:
    made = prepare_all(ToyAdapter(wanted), load_of(Path(told["checkpoint"])), own_environment(), machine(), print)
    print(made["model"].path)
    return 0

leave(as_command(work))
"""


class Started:
    """A harness that prepares something for ten minutes, with its home in `room`."""

    def __init__(self, room: Path) -> None:
        self.home, self.pids_file = room / "home", room / "pids"
        told = {"command": COMMAND, "pids": str(self.pids_file), "checkpoint": str(room / "checkpoint")}
        self.harness = subprocess.Popen(
            [sys.executable, "-c", HARNESS, json.dumps(told)],
            cwd=ROOT,
            env={**os.environ, "INNERLOOP_HOME": str(self.home)},
            start_new_session=True,
        )
        until(self._begun)
        self.pids = [int(pid) for pid in self.pids_file.read_text().split()]
        assert len(self.pids) == 2

    def _begun(self) -> bool:
        assert self.harness.poll() is None
        return self.pids_file.exists()

    def until_gone(self) -> None:
        until(lambda: not any(alive(pid) for pid in self.pids))

    def half_made(self) -> list[Path]:
        return list((self.home / "prepared").glob(".*.partial"))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path):
    checkpoint_in(tmp_path / "checkpoint")
    started: list[Started] = []

    def make() -> Started:
        (tmp_path / "pids").unlink(missing_ok=True)
        started.append(Started(tmp_path))
        return started[-1]

    yield make
    for one in started:
        for pid in (one.harness.pid, *one.pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        one.harness.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_harness_leaves_neither_process_nor_folder(start, number):
    run = start()
    run.harness.send_signal(number)
    assert run.harness.wait(PATIENCE_S) == -number
    run.until_gone()
    assert [path for path in (run.home / "prepared").iterdir() if path.is_dir()] == []


def test_of_a_killed_harness_no_process_stays_and_the_next_run_begins_anew(start):
    run = start()
    assert len(run.half_made()) == 1
    run.harness.kill()
    run.harness.wait()
    run.until_gone()
    again = start()
    [half_made] = again.half_made()
    assert len(list(half_made.glob("content-*"))) == 1
    again.harness.send_signal(signal.SIGINT)
    again.harness.wait(PATIENCE_S)
    assert again.half_made() == []
