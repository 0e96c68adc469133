from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from innerloop.harness.cli import command
from innerloop.harness.cli.errors import InstallFailed, Refused, exit_codes
from innerloop.harness.cli.signals import Stopped, hold
from tests.real import ROOT


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Refused("no model 'x'", "known: y"), 2, "innerloop: no model 'x'\n  known: y\n"),
        (InstallFailed("uv could not install it"), 3, "innerloop: uv could not install it\n"),
    ],
)
def test_an_error_becomes_its_exit_code_and_its_words_go_to_stderr(error, code, said, capsys):
    def fail() -> int:
        raise error

    assert command.as_command(fail) == code
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_stopped_says_by_what(number, capsys):
    def stopped() -> int:
        signal.raise_signal(number)
        return 0

    before = signal.getsignal(number)
    assert command.as_command(stopped) == 128 + number
    assert capsys.readouterr().err == f"innerloop: interrupted by {number.name}\n"
    assert signal.getsignal(number) is before


def test_what_the_work_returns_is_the_exit_code():
    assert command.as_command(lambda: 4) == 4


def test_an_error_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        command.as_command(lambda: 1 // 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_work_that_was_interrupted_and_kept_what_it_had_has_the_signals_code(number):
    def stopped() -> int:
        with hold() as held:
            try:
                with held.released():
                    signal.raise_signal(number)
            except Stopped as stopped:
                stopped.take()
        return 130

    assert command.as_command(stopped) == 128 + number


def ended(code: str, **more: object) -> subprocess.CompletedProcess[str]:
    script = f"import signal, sys\nfrom innerloop.harness.cli import command\n{code}"
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5])
def test_a_process_leaves_with_its_exit_code(code):
    assert ended(f"command.leave({code})").returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_a_signal_stopped_dies_of_it_after_cleaning_up(number):
    work = (
        "def work():\n"
        "    try:\n"
        f"        signal.raise_signal({int(number)})\n"
        "    finally:\n"
        "        print('cleaned up')\n"
        "command.leave(command.as_command(work))"
    )
    done = ended(work)
    assert done.returncode == -number
    assert done.stdout == "cleaned up\n"
    assert done.stderr == f"innerloop: interrupted by {number.name}\n"


def test_a_shells_loop_stops_with_it(tmp_path):
    """bash goes on after a child that exits with 130, and stops after one that died of SIGINT."""
    (tmp_path / "work.py").write_text(
        "import os, signal\n"
        "from innerloop.harness.cli import command\n"
        "def work():\n"
        "    print('begun', flush=True)\n"
        "    os.killpg(0, signal.SIGINT)  # as Ctrl-C does\n"
        "    signal.pause()\n"
        "command.leave(command.as_command(work))\n"
    )
    script = f"for i in 1 2 3; do {sys.executable} {tmp_path / 'work.py'}; done; echo the loop went on"
    loop = ["bash", "-c", f"trap - INT; {script}"]

    def interruptible() -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    done = subprocess.run(loop, cwd=ROOT, capture_output=True, text=True, preexec_fn=interruptible)
    assert done.stdout == "begun\n"


def test_a_hangup_that_nohup_ignores_stays_ignored():
    work = (
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "def work():\n"
        "    signal.raise_signal(signal.SIGHUP)\n"
        "    return 0\n"
        "command.leave(command.as_command(work))"
    )
    assert ended(work).returncode == 0


def test_a_terminal_that_is_gone_does_not_hide_the_hangup():
    def stopped() -> int:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            raise OSError(5, "Input/output error")

    assert command.as_command(stopped) == 129


def test_every_exit_code_has_a_line_in_the_table():
    told = exit_codes()
    for code in (0, 2, 3, 4, 5, 129, 130, 143):
        assert f"\n  {code:<3} " in told
    assert exit_codes(0, 3).count("\n") == 2


def test_in_a_program_of_somebody_elses_an_interrupt_is_theirs_after_the_work_has_ended():
    ended: list[bool] = []

    def work(keeps_what_it_has: bool) -> None:
        with hold() as held:
            try:
                with held.released():
                    signal.raise_signal(signal.SIGINT)
            except Stopped as stopped:
                ended.append(keeps_what_it_has)
                if not keeps_what_it_has:
                    raise
                stopped.take()

    def program(keeps_what_it_has: bool) -> None:
        command.signals_passed_on(lambda: work(keeps_what_it_has))
        pytest.fail("the program goes on")

    for keeps_what_it_has in (True, False):
        with pytest.raises(KeyboardInterrupt):
            program(keeps_what_it_has)
    assert ended == [True, False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_was_there_gets_the_signal():
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: got.append(number))
    try:
        with pytest.raises(Stopped):
            command.signals_passed_on(lambda: signal.raise_signal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM]


def test_in_another_thread_signals_are_left_alone():
    done = []

    def work() -> None:
        command.signals_passed_on(lambda: done.append(signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


def test_a_name_that_the_system_refuses_is_refused_in_one_line(capsys, tmp_path):
    """However it came to a command, as an argument or in a file."""
    assert command.as_command(lambda: len(Path("x" * 5000).read_text())) == 2
    said = capsys.readouterr().err
    assert said == f"innerloop: {'x' * 300}: File name too long\n"


def test_an_error_of_the_system_that_names_no_file_is_not_hidden():
    def fail() -> int:
        raise OSError(12, "Cannot allocate memory")

    with pytest.raises(OSError, match="Cannot allocate"):
        command.as_command(fail)


def test_a_signal_that_a_callback_swallows_still_stops_the_work():
    work = (
        "import time, weakref\n"
        "class Thing: pass\n"
        "def work():\n"
        "    thing = Thing()\n"
        "    weakref.finalize(thing, lambda: None)\n"
        "    ref = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))\n"
        "    del thing\n"
        "    print('went on', flush=True)\n"
        "    time.sleep(60)\n"
        "    return 0\n"
        "command.leave(command.as_command(work))"
    )
    done = ended(work)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "went on\n")
    assert done.stderr == "innerloop: interrupted by SIGINT\n"


def test_a_current_folder_that_is_gone_is_refused_in_one_line(capsys, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert command.as_command(lambda: len(str(Path("run").absolute()))) == 2
    assert capsys.readouterr().err == "innerloop: the current folder no longer exists\n  cd to one that does\n"
    monkeypatch.chdir(tmp_path)


def test_a_file_that_a_full_disk_cuts_is_named_and_no_refusal(capsys):
    def full() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "p.html")

    assert command.as_command(full) == 3
    assert capsys.readouterr().err == "innerloop: p.html: No space left on device\n"
