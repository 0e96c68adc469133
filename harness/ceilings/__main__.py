"""`python -m harness.ceilings`: measures what this machine's memory and matrix units can do at most."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from innerloop.harness.ceilings.commands import parser
from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 refused, 3 it could not be measured, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    """Prints what has been measured before, or measures now."""
    from innerloop.harness.ceilings import cache
    from innerloop.harness.ceilings.commands import measured

    found = cache.every() if arguments.list else [measured(arguments)]
    if arguments.json:
        documents = [one.describe() for one in found]
        print_json(documents if arguments.list else documents[0], ascii=True)
        return EXIT_OK
    from innerloop.harness.report.ceilings import print_ceilings

    print_ceilings(found)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
