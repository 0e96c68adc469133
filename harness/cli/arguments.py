"""What every command line shares: how its help looks, durations and rates, and errors in one line that say the fix."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, Refused, closest, nearest
from innerloop.harness.cli.helptext import HelpFormatter
from innerloop.harness.cli.output import say
from innerloop.harness.cli.secrets import HIDDEN, hidden, is_secret
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import printable, visible

UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
NAMED = "a run or an experiment: its folder, its name in runs/ or experiments/, or last, the newest of both"
NAMED_RUN = "a run: its folder, its name in runs/, or last, if what was made last is a run"
NAMED_EXPERIMENT = "its folder, its name in experiments/, or last, if what was made last is one"
LEAST_RATE = 0.0001  # a look in three hours: more seconds than a clock has would end in a traceback
Suggest = Callable[[str], str | None]


class CommandLine(argparse.ArgumentParser):
    """A command line whose errors are one line with the fix, on stderr, with exit code 2.

    `suggest` says for a word that stands alone what was probably meant: "--engine vllm" for "vllm".
    """

    suggest: Suggest | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        import sys

        words = [*(sys.argv[1:] if args is None else args)]
        found, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self.error(self._unknown(unknown[0], words))
        return found

    def print_help(self, file: Any = None) -> None:
        """Prints help, in any encoding; where it cannot be printed, that is the end, and says so."""

        def printed() -> int:
            say(self.format_help().removesuffix("\n"), file=file)
            return EXIT_OK

        if code := as_command(printed):
            self.exit(code)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_REFUSED, printable(f"{visible(hidden(f'innerloop: {self.said(message)}'))}\n"))

    def said(self, message: str) -> str:
        """argparse's own words as ours: the flag first, then what is wrong, then the fix."""
        if found := re.fullmatch(r"argument (.+?): (.*)", message, re.DOTALL):
            flag, message = found[1].split("/")[-1] if found[1].startswith("-") else found[1], found[2]
            if choice := re.fullmatch(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
                known = [name.strip(" '") for name in choice[2].split(",")]
                what = (
                    f"{flag}: '{choice[1]}' is not a valid choice"
                    if flag.startswith("-")
                    else f"there is no command '{choice[1]}'"
                )
                return f"{what}{nearest(choice[1], known)}"
            if message == "expected one argument":
                return f"{flag} needs a value; use {flag} {self._value_of(flag)}"
            return f"{flag}: {message}"
        if found := re.fullmatch(r"the following arguments are required: (.*)", message):
            return f"{found[1]} is missing; {self._help()}"
        return message

    def _unknown(self, word: str, words: Sequence[str]) -> str:
        """What is wrong with a word that no flag takes, and what to write instead."""
        parser = self._chosen(words)
        if word == "--version":
            return "--version cannot follow a command; use innerloop --version"
        if word.startswith("-"):
            flag = word.partition("=")[0]
            close = closest(flag, parser._option_string_actions)
            hint = f"; did you mean {' or '.join(close)}?" if close else f"; {parser._help()}"
            return f"there is no option {flag}{hint}"
        meant = parser._as_assignment(word, words) or (parser.suggest and parser.suggest(word))
        before = [one for one, value in pairwise(words) if value == word]
        shown = HIDDEN if any(map(is_secret, before)) else repr(word)
        if meant:
            return f"unexpected argument {shown}; use {meant}"
        return f"unexpected argument {shown}; {parser._help()}"

    def _as_assignment(self, word: str, words: Sequence[str]) -> str | None:
        """`--set NAME VALUE`, where `--set NAME=VALUE` was meant."""
        for flag, name, value in zip(words, words[1:], words[2:], strict=False):
            action = self._option_string_actions.get(flag)
            takes = str(action.metavar) if action is not None else ""
            if value == word and "=" in takes and "=" not in name and not name.startswith("-"):
                return f"{flag} {name}={value}"
        return None

    def _chosen(self, words: Sequence[str]) -> CommandLine:
        """The command line of the sub-verb that is in use, else this one."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word in words:
                    if word in action.choices:
                        chosen: CommandLine = action.choices[word]
                        return chosen
        return self

    def _value_of(self, flag: str) -> str:
        action = self._option_string_actions.get(flag)
        return str(action.metavar or action.dest.upper()) if action is not None else "VALUE"

    def _help(self) -> str:
        return f"see {self.prog} --help"


def command_line(verb: str, description: str, epilog: str, suggest: Suggest | None = None) -> CommandLine:
    """The command line of `innerloop VERB`; the epilog's examples stay lines of their own."""
    out = CommandLine(prog=as_called(f"innerloop {verb}"), description=description, epilog=as_called(epilog))
    out.suggest = suggest
    return out


def add_remove(verbs: Any, what: str, names: str) -> CommandLine:
    """The sub-verb `remove NAME... | --all`, the same wherever something can be removed."""
    out: CommandLine = verbs.add_parser("remove", help=what, description=f"{what[0].upper()}{what[1:]}.")
    out.add_argument("names", nargs="*", metavar="NAME", help=names)
    out.add_argument("--all", action="store_true", help="remove everything")
    return out


def named_or_all(names: Sequence[str], every: bool, known: Sequence[str], what: str) -> list[str]:
    """The names that `remove` was given, or all that are known.

    Raises:
        Refused: neither or both were given, or there is no such name; nothing is removed then.
    """
    if bool(names) == every:
        raise Refused(f"name at least one {what} to remove, or give --all")
    for name in names:
        if name not in known:
            raise Refused(f"there is no {what} {name!r}{nearest(name, known) or '; none exists yet'}")
    return [*known] if every else [*dict.fromkeys(names)]


def path_of(text: str) -> Path:
    """A path; `~` is a home folder also behind `--out=`, where a shell leaves it as it is. A blank one, as of a
    variable that is not set, would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is blank")
    return Path(os.path.expanduser(text))


def duration(text: str) -> float:
    """Seconds, from 90, 90s, 5m or 1h."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|)", text.strip())
    if found is None or not 0 < float(found[1]) < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a positive duration; use seconds, or a value such as 90s, 5m or 1h"
        )
    return float(found[1]) * UNITS[found[2]]


def relative(text: str) -> float:
    """A part of one, above 0 and below 1, from 2% or 0.02."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", text.strip())
    value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1; use a value such as 2% or 0.02")
    return value


def rate_up_to(most: int) -> Callable[[str], float]:
    """How many times a second, `most` at most."""

    def rate(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not LEAST_RATE <= value <= most:
            raise argparse.ArgumentTypeError(
                f"{text} is not a valid rate; use a number from {LEAST_RATE} to {most} per second"
            )
        return value

    return rate


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number within bounds, both included."""

    def number(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return number
