"""Progress goes to stderr, and a terminal that is gone stops nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TextIO, cast

import pytest

from innerloop.harness.cli.progress import Lasting, progress_console


class Gone(io.StringIO):
    """A terminal that hung up, or a disk that is full."""

    number = 5

    def write(self, text: str) -> int:
        raise OSError(self.number, "gone")


def test_progress_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress_console().print("loading [the model]", markup=False)
    assert capsys.readouterr() == ("", "loading [the model]\n")


def test_what_is_written_to_a_terminal_that_is_gone_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Gone())
    progress_console().print("loading")


def test_a_disk_that_is_full_stops_nothing_and_is_remembered() -> None:
    full = Gone()
    full.number = 28
    stream = Lasting(cast(TextIO, full))
    assert stream.write("x") == 1
    assert stream.lost is not None
    assert stream.lost.errno == 28


PRINTING = """
import sys
from innerloop.harness.cli.command import as_command, leave
def work():
    for _ in range(10_000):
        print("one line of many µ")
    return 3
leave(as_command(work))
"""


def test_a_reader_that_has_enough_changes_no_exit_code_and_leaves_no_traceback() -> None:
    """As in `innerloop runs --json | head -1`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "one line of many µ\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 3


def test_what_an_encoding_cannot_say_changes_no_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTING],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout.startswith(b"one line of many ?\n")


@pytest.mark.parametrize(
    ("returned", "keeps", "code"), [(0, "False", 3), (0, "True", 0), (2, "False", 2), (4, "True", 4)]
)
def test_an_output_that_a_full_disk_cuts_off_is_said_and_changes_no_code_but_success(
    returned: int, keeps: str, code: int
) -> None:
    """`innerloop show RUN --json > FILE` must not pass for whole; a run's own result lies in its folder."""
    script = PRINTING.replace("return 3", f"return {returned}").replace("(work)", f"(work, {keeps})")
    command = [sys.executable, "-c", script]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code
    assert done.stderr == "innerloop: the output could not be written: No space left on device\n"
