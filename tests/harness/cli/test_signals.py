"""A signal is raised where work may be cut, once, and nowhere else; whatever swallows it, it comes again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.signals import SIGNALS, Stopped, hold, stop_signals
from innerloop.harness.store.atomic import whole
from innerloop.harness.store.folders import partial, written_whole
from tests.real import ROOT, variables


def send(number: signal.Signals = signal.SIGINT) -> None:
    signal.raise_signal(number)


def test_only_the_first_signal_is_raised():
    seen: list[str] = []

    def work() -> int:
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGINT)
            seen.append("cleaned up")
        return 0

    assert as_command(work) == 128 + signal.SIGTERM
    assert seen == ["cleaned up"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", SIGNALS)
def test_nothing_is_raised_in_a_hold_and_what_came_is_raised_at_its_end(number):
    seen: list[str] = []

    def work() -> int:
        with hold():
            send(number)
            with hold():
                seen.append("inner")
            seen.append("outer")
        seen.append("after")
        return 0

    assert as_command(work) == 128 + number
    assert seen == ["inner", "outer"]


def test_a_part_of_a_hold_is_as_it_is_around_it():
    seen: list[str] = []

    def work() -> int:
        with hold() as held:
            try:
                with held.released():
                    send()
                    seen.append("not reached")
            except Stopped as stopped:
                stopped.take()
                send()
                seen.append("put away")
        with hold(), hold() as inner, inner.released():
            send()
            seen.append("still held")
        return 0

    assert as_command(work) == 128 + signal.SIGINT
    assert seen == ["put away", "still held"]


def test_a_signal_that_waits_is_raised_where_a_part_of_a_hold_is_released():
    seen: list[str] = []

    def work() -> int:
        with hold() as held:
            send()
            try:
                with held.released():
                    seen.append("not reached")
            finally:
                seen.append("cleaned up")
        return 0

    assert as_command(work) == 130
    assert seen == ["cleaned up"]


def test_once_it_was_taken_and_its_hold_is_over_the_next_one_is_raised():
    def work() -> int:
        with hold() as held:
            try:
                with held.released():
                    send(signal.SIGTERM)
            except Stopped as stopped:
                stopped.take()
        time.sleep(0.2)  # nothing comes again of the one that was taken
        send(signal.SIGINT)
        return 0

    assert as_command(work) == 128 + signal.SIGINT


def test_what_native_code_makes_of_it_is_taken_for_it():
    """pydantic makes a SchemaError of whatever passes through it; here the interpreter makes a RuntimeError."""

    class Sends:
        def __set_name__(self, owner: object, name: str) -> None:
            send()

    def work() -> int:
        type("Owner", (), {"it": Sends()})
        return 0

    assert as_command(work) == 130


def test_what_swallows_it_gets_it_again():
    class Sends:
        def __set_name__(self, owner: object, name: str) -> None:
            send()

    def work() -> int:
        with pytest.raises(RuntimeError):
            type("Owner", (), {"it": Sends()})
        time.sleep(60)
        return 0

    begun = time.monotonic()
    assert as_command(work) == 130
    assert time.monotonic() - begun < 50


def test_no_import_is_cut(tmp_path, monkeypatch):
    """A module of which half was imported could not be imported again to put a run away."""
    (tmp_path / "interrupted_module.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\nWHOLE = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    whole: list[bool] = []

    def work() -> int:
        import interrupted_module  # type: ignore[import-not-found]

        whole.append(interrupted_module.WHOLE)
        time.sleep(60)
        return 0

    assert as_command(work) == 130
    assert whole == [True]


def test_one_that_comes_when_the_work_is_over_is_the_exit_code(monkeypatch):
    """Between the work's end and the moment at which the handlers are those of before."""
    own = stop_signals.__exit__

    def late(self: stop_signals, *error: object) -> None:
        send(signal.SIGTERM)
        own(self, *error)  # type: ignore[arg-type]

    monkeypatch.setattr(stop_signals, "__exit__", late)
    assert as_command(lambda: 0) == 128 + signal.SIGTERM


def test_a_file_that_is_being_written_is_there_or_not(tmp_path, monkeypatch):
    def work() -> int:
        with whole(tmp_path / "file") as half:
            half.write_text("half")
            send()
        return 0

    assert as_command(work) == 130
    assert list(tmp_path.iterdir()) == []

    own = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        send()
        own(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)

    def cleaning() -> int:
        with whole(tmp_path / "file"):
            raise ValueError("never seen, for the signal came too")
        return 0

    assert as_command(cleaning) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_being_written_is_there_or_not(tmp_path):
    def work() -> int:
        with written_whole(tmp_path / "folder") as half:
            (half / "file").write_text("")
            send()
        return 0

    assert as_command(work) == 130
    assert not partial(tmp_path / "folder").exists()
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("before", ["default_int_handler", "SIG_IGN"])  # a script's background job begins with this
@pytest.mark.parametrize("program", [["-m", "harness.doctor"], ["-m", "innerloop", "doctor"]])
def test_from_its_first_line_on_a_command_dies_of_ctrl_c_without_a_word(program, before, tmp_path):
    """The signal comes with the first module of ours that is imported after the package itself."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.{before})\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('harness.doctor', 'innerloop.harness'):\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    words = [sys.executable, *program]
    done = subprocess.run(words, env=variables(PYTHONPATH=path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
