"""Where progress is told: stderr, also after its terminal has gone."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console


class Lasting:
    """A stream whose terminal may go, as when a connection breaks: what is written after that is dropped, so that the
    work goes on to an orderly end. The hangup itself comes as a signal."""

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
            if error.errno != errno.EIO:
                raise
            return None


def progress_console() -> Console:
    """The console for what is going on; results go to stdout."""
    from rich.console import Console

    return Console(file=cast(TextIO, Lasting(sys.stderr)))
