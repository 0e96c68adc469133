"""The console script `innerloop VERB ...`, which is `python -m innerloop VERB ...` and `python -m harness VERB ...`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from innerloop.harness import __version__
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, exit_codes, nearest
from innerloop.harness.cli.helptext import columns, filled
from innerloop.harness.cli.output import say, tell
from innerloop.harness.cli.progress import open_streams
from innerloop.harness.cli.verbs import ROOMS, VERBS, module_of

HELP = ("-h", "--help")


def console() -> NoReturn:
    """Runs a verb and ends the process, by the signal that stopped it where one did."""
    open_streams()
    leave(main())


def main() -> int:
    """Runs the verb that the command line names, and returns the exit code."""
    verb, *arguments = sys.argv[1:] or ["help"]
    if verb == "help" and arguments and arguments[0] not in HELP:
        verb, arguments = arguments[0], [*arguments[1:], "--help"]
    if verb in ("help", *HELP):
        return told(*filled(help_text(), columns()))
    if verb in ("--version", "version"):
        return told(f"innerloop {__version__}")
    if verb not in VERBS:
        what = "option" if verb.startswith("-") else "command"
        hint = nearest(verb, VERBS) if what == "command" else "; innerloop --help lists the commands"
        tell(f"there is no {what} {verb!r}{hint}")
        return EXIT_REFUSED
    return entry(verb)(arguments)


def told(*lines: str) -> int:
    """Prints lines, and returns the exit code."""

    def work() -> int:
        say(*lines)
        return EXIT_OK

    return as_command(work)


def help_text() -> str:
    """All verbs, and what every exit code means."""
    return "\n".join(
        (
            "usage: innerloop COMMAND [options]",
            "",
            *(f"  {verb:<14}{what}" for verb, what in VERBS.items()),
            "",
            "For help on a command: innerloop help COMMAND, or innerloop COMMAND --help.",
            "For the version: innerloop --version",
            "",
            exit_codes(),
        )
    )


def entry(verb: str) -> Callable[[Sequence[str]], int]:
    """What runs a verb: it takes the command line after the verb's name, and returns the exit code."""
    module = f"{verb}.__main__" if verb in ROOMS else module_of(verb)
    main: Callable[[Sequence[str]], int] = importlib.import_module(f"innerloop.harness.{module}").main
    return main


if __name__ == "__main__":
    console()
