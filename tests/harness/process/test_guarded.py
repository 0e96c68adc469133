"""What a user's command starts ends with it, with the harness, and with a signal to the harness."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from innerloop.harness.process.guarded import run_guarded
from tests.real import guards
from tests.waiting import gone, until

STARTS = "sleep 600 & echo $! > child; wait"


def test_a_command_says_how_it_ended_and_its_output_is_in_the_log(tmp_path: Path) -> None:
    assert run_guarded(["sh", "-c", "pwd; exit 3"], tmp_path, tmp_path / "log") == 3
    assert (tmp_path / "log").read_text().strip() == str(tmp_path)
    assert run_guarded(["true"], tmp_path, tmp_path / "log") == 0
    assert run_guarded([str(tmp_path / "nothing")], tmp_path, tmp_path / "log") is None


def test_nothing_that_a_command_left_behind_goes_on(tmp_path: Path) -> None:
    assert run_guarded(["sh", "-c", "setsid sleep 600 & echo $! > child"], tmp_path, tmp_path / "log") == 0
    assert not psutil.pid_exists(int((tmp_path / "child").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_the_harness_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys; from pathlib import Path; from innerloop.harness.cli.command import as_command\n"
        "from innerloop.harness.process.guarded import run_guarded\n"
        f"here = Path(sys.argv[1]); as_command(lambda: run_guarded(['sh', '-c', {STARTS!r}], here, here / 'log') or 0)"
    )
    harness = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip() != "")
    child = int((tmp_path / "child").read_text())
    os.kill(harness.pid, number)
    harness.wait()
    until(lambda: not psutil.pid_exists(child))


@pytest.mark.parametrize("which", [0, 1])
def test_it_ends_where_a_process_of_the_guard_is_killed(tmp_path: Path, which: int) -> None:
    """What it started without the mark and with its output elsewhere, too."""
    started = "env -i setsid sleep 600 > /dev/null 2>&1 & echo $! > child; wait"
    code = (
        "import sys; from pathlib import Path; from innerloop.harness.process.guarded import run_guarded\n"
        f"here = Path(sys.argv[1]); print(run_guarded(['sh', '-c', {started!r}], here, here / 'log'))"
    )
    harness = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip() != "")
    child = int((tmp_path / "child").read_text())
    guards(harness.pid)[which].kill()
    assert harness.communicate()[0] == "None\n"
    assert gone(child)
