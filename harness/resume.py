"""`innerloop resume FOLDER`: runs what is left of an experiment."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.arguments import CommandLine, command_line
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, STOPPED, exit_codes
from innerloop.harness.cli.output import print_json
from innerloop.harness.cli.progress import progress_console

EXAMPLES = """\
examples:
  innerloop resume experiments/20260102T030405Z-compare

An interrupted run is repeated; what it wrote is kept next to the new one. A block that a reboot interrupted is repeated
as a whole. Failed runs are not repeated.

"""


def parser() -> CommandLine:
    out = command_line(
        "resume",
        "Finish an interrupted experiment and print its result.",
        EXAMPLES + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, *STOPPED),
    )
    out.add_argument("folder", metavar="FOLDER", type=Path, help="the experiment's folder")
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: resume(arguments.folder, arguments))


def resume(folder: Path, arguments: argparse.Namespace) -> int:
    """Runs what is left and prints it; without a whole block there is nothing to print."""
    from innerloop.harness.experiments.local import go_on
    from innerloop.harness.report.comparison import print_comparison
    from innerloop.harness.store.typed import document

    console = progress_console()
    found, code = go_on(folder, console)
    if found is None:
        console.print(f"no block of {folder} is complete", highlight=False)
    elif arguments.json:
        print_json(document(found))
    else:
        print_comparison(found)
    return code


if __name__ == "__main__":
    leave(main())
