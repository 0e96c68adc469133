"""`innerloop suite NAME`: a study that comes with innerloop."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from innerloop.harness.cli.arguments import CommandLine, command_line
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, STOPPED, STRICT, exit_codes
from innerloop.harness.sweep import add_options

EXAMPLES = """\
examples:
  innerloop suite                        list the suites
  innerloop suite study-small            on any machine, in minutes
  innerloop suite study --dry-run        what it would run here, and for how long
  innerloop suite study --budget 8h

A suite is a sweep that comes with innerloop: `innerloop profiles show suite study` prints its file. Anything already
measured on this machine is skipped, so you can simply restart an interrupted suite, or finish it with innerloop resume.
See docs/how-to/run-a-study.md.

"""


def parser() -> CommandLine:
    out = command_line(
        "suite",
        "Run a study that comes with innerloop, and show it alongside published figures.",
        EXAMPLES + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_UNDECIDED, *STOPPED, undecided=STRICT),
    )
    out.add_argument("name", nargs="?", metavar="NAME", help="a suite's name; omit it to list the suites")
    add_options(out)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: suite(arguments), keeps=arguments.name is not None and not arguments.dry_run)


def suite(arguments: argparse.Namespace) -> int:
    from innerloop.harness.profiles.suites import load_suite

    if arguments.name is None:
        return list_suites(arguments.json)
    from innerloop.harness.experiments.sweeping import run_suite

    return run_suite(*load_suite(arguments.name), arguments)


def list_suites(as_json: bool) -> int:
    from innerloop.harness.cli.console import PlainConsole
    from innerloop.harness.cli.lists import print_list
    from innerloop.harness.cli.output import print_json
    from innerloop.harness.profiles.kinds import kind_of, shipped

    found = shipped(kind_of("suite"))
    if as_json:
        print_json({"suites": found}, "suites")
    else:
        print_list(PlainConsole(), ("suite", "what it runs"), [(one["name"], one["title"]) for one in found])
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
