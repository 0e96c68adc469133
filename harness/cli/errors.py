"""What can go wrong before and during a run, each with the exit code that the shell sees."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_GATE, EXIT_INTERRUPTED = 0, 2, 3, 4, 130


class InnerloopError(Exception):
    """An error whose message tells the user what to do next; `details` are further lines to print."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *details: str) -> None:
        super().__init__(message)
        self.details = details


class Refused(InnerloopError):
    """Bad input, or something that this machine cannot do: nothing was started."""

    exit_code = EXIT_REFUSED


class InstallFailed(InnerloopError):
    """An engine's environment could not be made; `details` holds the installer's own words."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Says which known name was probably meant: `"; did you mean 'llama3-8b'?"`, else the list of all of them."""
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "; known: " + ", ".join(known) if known else ""
