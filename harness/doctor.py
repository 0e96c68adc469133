"""`innerloop doctor`: what this machine is, what runs on it, what doesn't and why, what is there."""

from __future__ import annotations

from collections.abc import Sequence

from innerloop.harness.cli.arguments import CommandLine, command_line
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json

EXAMPLES = """\
examples:
  innerloop doctor                  a readable report
  innerloop doctor --json           the same as one JSON document
  CUDA_VISIBLE_DEVICES= innerloop doctor      as if there were no GPU
  innerloop doctor --engine my_engine.py      with your own engine: docs/how-to/add-an-engine.md

To create an engine's environment ahead of a run: innerloop environments create ENGINE
"""


def parser() -> CommandLine:
    top = command_line(
        "doctor",
        "Describe this machine: which engines run on it, which don't and why, and what is already installed.",
        EXAMPLES,
    )
    top.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="NAME|PATH.py",
        help="also examine this plug-in; may be repeated",
    )
    top.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 also where no engine runs, since saying so is what it is for."""
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments.json, arguments.engine))


def show(as_json: bool, plugins: Sequence[str]) -> int:
    from innerloop.harness.machine import this_machine
    from innerloop.harness.profiles.engines import load_engine
    from innerloop.harness.spec.examine import examine

    found = examine(this_machine(), [load_engine(name) for name in plugins])
    if as_json:
        print_json(found.describe(), "doctor")
        return EXIT_OK
    from innerloop.harness.cli.console import PlainConsole
    from innerloop.harness.report.doctor import print_examination

    print_examination(found, PlainConsole())
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
