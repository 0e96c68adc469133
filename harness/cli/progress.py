"""Where results and progress are told: streams that last when their reader has gone, so that a run ends in order."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console


class Lasting:
    """A stream whose reader may go: a terminal when its connection breaks, `head` when it has its lines. What is
    written after that is dropped, so that the work goes on to an orderly end and its exit code stands. A hangup itself
    comes as a signal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._or_drop(self._stream.write, text) or len(text))

    def flush(self) -> None:
        self._or_drop(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _or_drop(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            if error.errno == errno.EPIPE:  # what is left in the buffer is written at the end, and must go somewhere
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            return None


@contextmanager
def lasting_stdout() -> Iterator[None]:
    """Meanwhile stdout lasts, and what its encoding cannot say is written as `?`."""
    own = sys.stdout
    with suppress(AttributeError, ValueError, OSError):
        own.reconfigure(errors="replace")  # type: ignore[union-attr]  # of a text file
    sys.stdout = cast(TextIO, Lasting(own))
    try:
        yield
    finally:
        sys.stdout = own


def progress_console() -> Console:
    """The console for what is going on; results go to stdout."""
    from rich.console import Console

    return Console(file=cast(TextIO, Lasting(sys.stderr)))
