"""Progress goes to stderr, and a terminal that is gone stops nothing."""

from __future__ import annotations

import io
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


def test_any_other_trouble_is_told() -> None:
    full = Gone()
    full.number = 28
    with pytest.raises(OSError, match="gone"):
        Lasting(cast(TextIO, full)).write("x")
