"""`innerloop runs`: the runs and experiments that are there, a line each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from innerloop.harness.cli.arguments import CommandLine, command_line, path_of, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json, tell

EXAMPLES = """\
examples:
  innerloop runs                                  all in runs/ and experiments/, newest last
  innerloop runs experiments/20260102T030405Z-compare/runs      the runs of one experiment
  innerloop runs --last 5 --where status=ok
  innerloop runs --where engine=vllm --where try=small      by a label
  innerloop runs --json | python -m json.tool

Settings, labels and notes come from innerloop run --set, --label and --note. A run without a result is still running
or was interrupted; one that cannot be read is listed as broken, with the reason. Each experiment is listed on one line,
with the settings of its first side, or all values of a sweep; it stands as the worst of its runs does, and the line
says how many failed, were refused or are suspect.
"""


def parser() -> CommandLine:
    out = command_line(
        "runs", "List runs and experiments: time, engine, model, workload, settings, status, speed.", EXAMPLES
    )
    out.add_argument("folder", nargs="?", type=path_of, metavar="FOLDER", help="default: runs and experiments")
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
    from innerloop.harness.analysis.chunks import said
    from innerloop.harness.experiments.listing import list_experiments
    from innerloop.harness.result.listing import chosen, list_runs
    from innerloop.harness.store.run_folder import EXPERIMENTS, RUNS

    roots = (RUNS, EXPERIMENTS) if arguments.folder is None else (arguments.folder,)
    with said("reading the runs", tell):
        found = [line for root in roots for line in (*list_runs(root), *list_experiments(root))]
    lines = chosen(sorted(found, key=lambda line: (line.when, line.folder)), arguments.where)
    lines = lines[-arguments.last :] if arguments.last else lines
    if arguments.json:
        print_json({"runs": [asdict(line) for line in lines]}, "runs")
        return EXIT_OK
    from innerloop.harness.report.runs import print_runs

    print_runs(lines, " and ".join(str(root) for root in roots if root == roots[0] or root.is_dir()))
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
