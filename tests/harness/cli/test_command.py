from __future__ import annotations

import signal

import pytest

from innerloop.harness.cli import command
from innerloop.harness.cli.errors import InstallFailed, Refused


def test_only_the_first_signal_is_raised():
    def interrupted_while_cleaning_up():
        with command.stop_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(command.Stopped) as stopped:
        interrupted_while_cleaning_up()
    assert stopped.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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
