"""Where results and progress are told: streams that last when their reader has gone, so that a run ends in order."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

from innerloop.harness.cli.words import THOUSANDS

if TYPE_CHECKING:
    from rich.console import Console


GONE = (errno.EIO, errno.EPIPE)  # the reader went, which is no trouble of ours
Shown = TypeVar("Shown")


def open_streams() -> None:
    """Gives this process what it was started without (`>&-`): else the first file that it opens is its output."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            if os.open(os.devnull, os.O_RDWR) == number and getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


class Lasting:
    """A stream whose reader may go: a terminal when its connection breaks, `head` when it has its lines; or whose disk
    may be full. What is written after that is dropped, so that the work goes on to an orderly end and its exit code
    stands. `lost` is the error that was met, if any. A hangup itself comes as a signal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._narrow = can_say(THOUSANDS, stream)
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        told = text if self._narrow else text.replace(THOUSANDS, " ")
        return int(self._or_drop(self._stream.write, told) or len(text))

    def flush(self) -> None:
        self._or_drop(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _or_drop(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            self.lost = self.lost or error
            if error.errno != errno.EIO:  # what is left in the buffer is written at the end, and must go somewhere
                with suppress(OSError, ValueError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, self._stream.fileno())
                    os.close(nowhere)
            return None


def can_say(text: str, stream: TextIO) -> bool:
    """Whether the stream's encoding has all of a text's characters; one that names none takes all."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@contextmanager
def lasting_stdout() -> Iterator[Lasting]:
    """Meanwhile stdout lasts, and what its encoding cannot say is written as `?`, but for a space
    between thousands."""
    own = sys.stdout
    with suppress(AttributeError, ValueError, OSError):
        own.reconfigure(errors="replace")  # type: ignore[union-attr]  # of a text file
    lasting = Lasting(own)
    sys.stdout = cast(TextIO, lasting)
    try:
        yield lasting
    finally:
        sys.stdout = own


def while_read(found: Iterable[Shown]) -> Iterator[Shown]:
    """What is found, up to the first that could not be printed: its reader has gone, or the disk is full, and who only
    looks would go on for nobody."""
    for one in found:
        yield one
        if getattr(sys.stdout, "lost", None) is not None:
            return


def progress_console(quiet: bool = False) -> Console:
    """The console for what is going on; results go to stdout."""
    from innerloop.harness.cli.console import PlainConsole

    return PlainConsole(file=cast(TextIO, Lasting(sys.stderr)), quiet=quiet)
