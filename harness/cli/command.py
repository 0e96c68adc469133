"""What is around the work of every command: signals that stop it, and errors that become exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_REFUSED, STOPPED, InnerloopError
from innerloop.harness.cli.output import tell
from innerloop.harness.cli.progress import GONE, Lasting, lasting_stdout, open_streams
from innerloop.harness.cli.signals import Stopped, stop_signals
from innerloop.harness.cli.verbs import as_called

SHOWN = 300  # letters of a path
FULL = (errno.ENOSPC, errno.EDQUOT)
Got = TypeVar("Got")


def as_command(work: Callable[[], int], keeps: bool = False) -> int:
    """What `work` returns or, where it raises an InnerloopError or is stopped, that exit code; stderr says why.

    Work that was interrupted and still came to its end (a run that keeps what it measured) has the signal's code too.
    `keeps`: what the work found is on the disk as well, or is the code itself, so that an output which cannot be
    written changes no code.
    """
    open_streams()
    with stop_signals() as held, lasting_stdout() as out:
        code, said = _done(work, keeps, held, out)
    if said:
        tell(*said)
    return code if held.late is None else 128 + held.late


def _done(work: Callable[[], int], keeps: bool, held: stop_signals, out: Lasting) -> tuple[int, tuple[str, ...]]:
    """The exit code, and what is to be said of it. The one place at which a signal becomes one."""
    try:
        with held.released():
            code = work()
            out.flush()
    except InnerloopError as error:
        return error.exit_code, (as_called(str(error)), *map(as_called, error.details))
    except Stopped as stopped:
        stopped.take()
        return 128 + stopped.number, (f"interrupted by {stopped}",)
    except OSError as error:
        if error.filename is None:
            if not _here():
                return EXIT_REFUSED, ("the current folder no longer exists", "cd to one that does")
            raise
        code = EXIT_FAILED if error.errno in FULL else EXIT_REFUSED
        return code, (f"{os.fsdecode(error.filename)[:SHOWN]}: {error.strerror}",)
    if out.lost is not None and out.lost.errno not in GONE:
        lost = EXIT_FAILED if code == EXIT_OK and not keeps else code
        return lost, (f"the output could not be written: {out.lost.strerror}",)
    return (128 + held.taken if code == EXIT_INTERRUPTED and held.taken else code), ()


def _here() -> bool:
    """Whether the folder that this was called in is still there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def signals_passed_on(work: Callable[[], Got]) -> Got:
    """Does work in a process of somebody else's: a signal ends it in order, and reaches afterwards whoever handled it
    before. SIGINT raises KeyboardInterrupt then, unless that program sees to it differently.

    Raises:
        Stopped: after that, where the work did not come to its end and the program goes on.
    """
    with stop_signals() as held:
        try:
            with held.released():
                got = work()
        except Stopped as stopped:
            lost: Stopped | None = stopped.take()
        else:
            lost = None
    number = held.late if held.taken is None else held.taken
    if number is not None:
        signal.raise_signal(number)
    if lost is not None:
        raise lost
    return got


def leave(code: int) -> NoReturn:
    """Ends this process with an exit code; where a signal stopped it, by that signal, so that a shell's loop stops."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if code in STOPPED:
        signal.signal(code - 128, signal.SIG_DFL)
        os.kill(os.getpid(), code - 128)
    sys.exit(code)
