"""The reference of the command line: a page a verb, from its parser."""

from __future__ import annotations

import argparse
import importlib
from contextlib import suppress

from innerloop.harness.__main__ import entry
from innerloop.harness.cli.arguments import CommandLine
from innerloop.harness.cli.errors import EXIT_CODES
from innerloop.harness.cli.verbs import VERBS
from tests.docs.tables import made_by, outside_code, table


def parser_of(verb: str) -> CommandLine:
    """The parser that a verb's command line goes through, wherever its module has it from."""
    module = entry(verb).__module__
    room = module.removesuffix(".__main__")
    for name in (module, f"{room}.commands", "innerloop.harness.session.arguments"):
        with suppress(ImportError):
            if made := getattr(importlib.import_module(name), "parser", None):
                found: CommandLine = made()
                return found
    raise LookupError(f"no parser for {verb}")


def subverbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def page(verb: str) -> str:
    parser = parser_of(verb)
    told = [f"# innerloop {verb}", made_by("generate"), outside_code(parser.description or ""), *options(parser, 2)]
    for name, sub in subverbs(parser).items():
        told += [
            f"## innerloop {verb} {name}",
            outside_code(sub.description or help_of(parser, name)),
            *options(sub, 3),
        ]
    told += ["## Examples and notes", f"```text\n{(parser.epilog or '').strip()}\n```"] if parser.epilog else []
    return "\n\n".join(filter(None, told)) + "\n"


def help_of(parser: argparse.ArgumentParser, name: str) -> str:
    """What the list of sub-verbs says of one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return next((one.help or "" for one in action._choices_actions if one.dest == name), "")
    return ""


def options(parser: argparse.ArgumentParser, level: int) -> list[str]:
    """A table for each group of options that has any but --help."""
    told: list[str] = []
    for group in parser._action_groups:
        actions = [one for one in group._group_actions if shown(one)]
        if actions:
            plain = {"positional arguments": "Arguments", "options": "Options"}.get(
                group.title or "", group.title or ""
            )
            rows = [(spelled(one), outside_code(helped(parser, one))) for one in actions]
            told += [f"{'#' * level} {plain[:1].upper()}{plain[1:]}", table(("option", "what it does"), rows)]
    return told


def shown(action: argparse.Action) -> bool:
    hidden = isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)) or action.help == argparse.SUPPRESS
    return not hidden


def spelled(action: argparse.Action) -> str:
    """The option and the name of its value, as it is written."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"`{value if isinstance(value, str) else ' '.join(value)}`"
    takes = "" if action.nargs == 0 else f" {value if isinstance(value, str) else ' '.join(value)}"
    return ", ".join(f"`{flag}{takes}`" for flag in action.option_strings if flag.startswith("--") or len(flag) == 2)


def helped(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def index() -> str:
    rows = [(f"[`innerloop {verb}`]({verb}.md)", what) for verb, what in VERBS.items()]
    codes = [(f"`{code}`", outside_code(what)) for code, what in EXIT_CODES.items()]
    return (
        "\n\n".join(
            (
                "# The command line",
                made_by("generate"),
                table(("command", "what it does"), rows),
                "`innerloop help COMMAND` prints a command's options. In a checkout that is not installed, write "
                "`python -m harness.run` for `innerloop run`, and so on.",
                "## Exit codes",
                table(("code", "meaning"), [*codes, ("`1`", "a bug in innerloop")]),
                "[Errors and reasons](../reasons.md) has the causes behind code 3 and what to do about each.",
            )
        )
        + "\n"
    )


def commands() -> dict[str, str]:
    """The pages by their names."""
    return {"commands/index.md": index(), **{f"commands/{verb}.md": page(verb) for verb in VERBS}}
