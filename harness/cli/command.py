"""What is around the work of every command: signals that stop it, and errors that become exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from innerloop.harness.cli.errors import EXIT_INTERRUPTED, InnerloopError


class Stopped(BaseException):
    """SIGINT or SIGTERM reached the harness. Not an Exception, so that no handler for errors swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turns the first SIGINT or SIGTERM into `Stopped`; later ones are ignored: they must not cut cleaning up short."""

    def handler(number: int, _frame: Any) -> None:
        ignore_signals()
        raise Stopped(number)

    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def ignore_signals() -> None:
    """From here to the end of `stop_signals` nothing interrupts: what was measured is being put away."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def as_command(work: Callable[[], int]) -> int:
    """What `work` returns or, where it raises an InnerloopError or is stopped, that exit code; stderr says why."""
    try:
        with stop_signals():
            return work()
    except InnerloopError as error:
        print(f"innerloop: {error}", *(f"  {line}" for line in error.details), sep="\n", file=sys.stderr)
        return error.exit_code
    except Stopped as stopped:
        print(f"innerloop: interrupted by {stopped}", file=sys.stderr)
        return EXIT_INTERRUPTED
