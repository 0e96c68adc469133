"""What is around the work of every command: signals that stop it, and errors that become exit codes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_REFUSED, STOPPED, InnerloopError
from innerloop.harness.cli.output import tell
from innerloop.harness.cli.progress import GONE, lasting_stdout
from innerloop.harness.cli.verbs import as_called

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOWN = 300  # letters of a path
_received: list[int] = []  # the signals that stopped what is going on


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP reached the harness. Not an Exception, so that no handler for errors swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turns the first signal into `Stopped`; later ones are ignored: they must not cut cleaning up short.

    A SIGHUP that is ignored stays ignored: nohup asked for that. In a thread other than the main one, which no signal
    reaches, nothing is done.
    """
    if not _is_main_thread():
        yield
        return

    def handler(number: int, _frame: Any) -> None:
        ignore_signals()
        _received.append(number)
        raise Stopped(number)

    before = {number: signal.signal(number, handler) for number in _ours()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _ours() -> list[signal.Signals]:
    return [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


def ignore_signals() -> None:
    """From here to the end of `stop_signals` nothing interrupts: what was measured is being put away."""
    for number in SIGNALS if _is_main_thread() else ():
        signal.signal(number, signal.SIG_IGN)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def signals_passed_on() -> Iterator[None]:
    """For work in a process of somebody else's: a signal ends the work in order, and reaches afterwards whoever
    handled it before. SIGINT raises KeyboardInterrupt then, unless that program sees to it differently."""
    _received.clear()
    try:
        with stop_signals():
            yield
    except Stopped as stopped:
        signal.raise_signal(stopped.number)
        raise
    if _received:
        signal.raise_signal(_received[-1])


def as_command(work: Callable[[], int], keeps: bool = False) -> int:
    """What `work` returns or, where it raises an InnerloopError or is stopped, that exit code; stderr says why.

    Work that was interrupted and still came to its end (a run that keeps what it measured) has the signal's code too.
    `keeps`: what the work found is on the disk as well, so that an output which cannot be written changes no code.
    """
    _received.clear()
    try:
        with stop_signals(), lasting_stdout() as out:
            code = work()
            out.flush()
        if out.lost is not None and out.lost.errno not in GONE:
            tell(f"the output could not be written: {out.lost.strerror}")
            code = EXIT_FAILED if code == EXIT_OK and not keeps else code
        return 128 + _received[-1] if code == EXIT_INTERRUPTED and _received else code
    except InnerloopError as error:
        tell(as_called(str(error)), *map(as_called, error.details))
        return error.exit_code
    except Stopped as stopped:
        tell(f"interrupted by {stopped}")
        return 128 + stopped.number
    except OSError as error:
        if signal.SIGHUP in _received:  # the terminal is gone, and nothing can be printed
            return 128 + signal.SIGHUP
        if error.filename is None:
            raise
        tell(f"{os.fsdecode(error.filename)[:SHOWN]}: {error.strerror}")
        return EXIT_REFUSED


def leave(code: int) -> NoReturn:
    """Ends this process with an exit code; where a signal stopped it, by that signal, so that a shell's loop stops."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if code in STOPPED:
        signal.signal(code - 128, signal.SIG_DFL)
        os.kill(os.getpid(), code - 128)
    sys.exit(code)
