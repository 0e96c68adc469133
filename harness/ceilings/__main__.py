"""`innerloop ceilings`: what this machine's memory and matrix units can do at most."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from innerloop.harness.ceilings.commands import parser, spelled
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 refused, 3 it could not be measured, 130 interrupted."""
    arguments = parser().parse_args(spelled(sys.argv[1:] if argv is None else argv))
    return as_command(lambda: do(arguments), keeps=arguments.verb in ("measure", "remove"))


def do(arguments: argparse.Namespace) -> int:
    """Prints what has been measured before, measures now, or forgets."""
    from innerloop.harness.ceilings import cache
    from innerloop.harness.ceilings.commands import measured, remove

    if arguments.verb is None:
        parser().print_help()
        return EXIT_OK
    if arguments.verb == "remove":
        remove(arguments)
        return EXIT_OK
    from innerloop.harness.report.ceilings import print_ceilings

    found = cache.every() if arguments.verb == "list" else [measured(arguments)]
    if not arguments.json:
        print_ceilings(found)
    elif arguments.verb == "list":
        kept = [{"name": cache.path_of(one.key).stem, **one.describe()} for one in found]
        print_json({"ceilings": kept}, "ceilings")
    else:
        print_json(found[0].describe(), "device_ceilings")
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
