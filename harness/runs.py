"""`innerloop runs`: the runs that are there, a line each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from innerloop.harness.cli.arguments import CommandLine, command_line, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json

EXAMPLES = """\
examples:
  innerloop runs                                  all runs in runs/, newest last
  innerloop runs --last 5 --where status=ok
  innerloop runs --where engine=vllm --where try=small      by a label
  innerloop runs --json | python -m json.tool

Settings, labels and notes come from innerloop run --set, --label and --note. A run without a result is still running
or was interrupted; one that cannot be read is listed as broken, with the reason.
"""


def parser() -> CommandLine:
    out = command_line("runs", "List runs: start time, engine, model, workload, settings, status and speed.", EXAMPLES)
    out.add_argument("folder", nargs="?", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")
    out.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="list only runs that match all conditions; FIELD is status, engine, model, workload or a label",
    )
    out.add_argument("--last", type=whole(1, 999_999), metavar="N", help="list only the newest N")
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    from innerloop.harness.result.listing import chosen, list_runs

    lines = chosen(list_runs(arguments.folder), arguments.where)
    lines = lines[-arguments.last :] if arguments.last else lines
    if arguments.json:
        print_json({"runs": [asdict(line) for line in lines]}, "runs")
        return EXIT_OK
    from innerloop.harness.report.runs import print_runs

    print_runs(lines, arguments.folder)
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
