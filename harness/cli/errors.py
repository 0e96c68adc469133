"""What can go wrong before and during a run, and the exit codes that the shell sees."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_WORSE, EXIT_UNDECIDED = 0, 2, 3, 4, 5
EXIT_HANGUP, EXIT_INTERRUPTED, EXIT_TERMINATED = 129, 130, 143  # 128 + the signal that the process then dies of

UNDECIDED = "a --fail-if condition is undecided"
STRICT = "--strict was given and the run is suspect"

EXIT_CODES = {
    EXIT_OK: 'finished (a run may still be "suspect": the reasons are printed)',
    EXIT_REFUSED: "refused before anything started: the input is wrong, or this machine cannot do it",
    EXIT_FAILED: "an engine, an installer or a check failed; the records so far are kept",
    EXIT_WORSE: "a --fail-if condition failed",
    EXIT_UNDECIDED: f"{UNDECIDED}, or {STRICT}",
    EXIT_HANGUP: "ended by SIGHUP after cleaning up; the records so far are kept",
    EXIT_INTERRUPTED: "ended by SIGINT (Ctrl-C), as above",
    EXIT_TERMINATED: "ended by SIGTERM, as above",
}
STOPPED = (EXIT_HANGUP, EXIT_INTERRUPTED, EXIT_TERMINATED)


def exit_codes(*codes: int, undecided: str = EXIT_CODES[EXIT_UNDECIDED]) -> str:
    """The lines of a help text on exit codes: those given, or all of them; `undecided`: when the command ends so."""
    told = {**EXIT_CODES, EXIT_UNDECIDED: undecided}
    lines = (f"  {code:<3} {told[code]}" for code in codes or told)
    return "\n".join(("exit codes (1 means a bug in innerloop):", *lines))


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


def told(error: BaseException) -> str:
    """An error in words: of ours and of the system their own, of any other also its kind."""
    if isinstance(error, (InnerloopError, OSError)):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def closest(name: str, choices: Iterable[str]) -> list[str]:
    """The known names, two at most, one of which was probably meant."""
    return difflib.get_close_matches(name, sorted(choices), n=2, cutoff=0.55)


def nearest(name: str, choices: Iterable[str]) -> str:
    """Says which known name was probably meant: `"; did you mean 'llama3-8b'?"`, else the list of all of them."""
    known = sorted(choices)
    close = closest(name, known)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "; choose from: " + ", ".join(known) if known else ""
