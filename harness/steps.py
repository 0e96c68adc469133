"""`innerloop steps RUN`: says from a run's trace where the time of its steps went."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from innerloop.harness.cli.arguments import NAMED_RUN, CommandLine, command_line, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json

EXAMPLES = """\
examples:
  innerloop steps last
  innerloop steps 20260102T030405Z-vllm-llama-tiny-quick
  innerloop steps RUN --slowest 50
  innerloop steps RUN --json

Reads steps.parquet, tokens.parquet and requests.parquet; runs nothing.
docs/how-to/find-slow-steps.md explains the output.
Exit codes: 0 printed, even if the run failed; 2 there is no such run.
"""


def parser() -> CommandLine:
    out = command_line(
        "steps",
        "Analyse the steps of a run: the slowest ones, step time by composition, preemption storms, "
        "how prefill delays other requests, and host phases by number of running requests.",
        EXAMPLES,
    )
    out.add_argument("run", metavar="RUN", help=NAMED_RUN)
    out.add_argument(
        "--slowest", type=whole(0, 100_000), default=10, metavar="N", help="how many steps to list; default: 10"
    )
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    from innerloop.harness.analysis.chunks import said
    from innerloop.harness.cli.output import tell
    from innerloop.harness.result.steps import investigate
    from innerloop.harness.store.find import find_one
    from innerloop.harness.store.typed import document

    with said("reading the records", tell):
        found = investigate(find_one(arguments.run), arguments.slowest)
    if arguments.json:
        print_json(document(found))
        return EXIT_OK
    from innerloop.harness.report.steps import print_steps

    print_steps(found)
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
