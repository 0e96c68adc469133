"""`innerloop show RUN`: prints a run or an experiment again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.arguments import NAMED, CommandLine, command_line
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK, Refused
from innerloop.harness.cli.output import print_json, say

EXAMPLES = """\
examples:
  innerloop show last                                            what was made last, a run or an experiment
  innerloop show 20260102T030405Z-vllm-llama-tiny-quick          by its name in runs/
  innerloop show runs/20260102T030405Z-vllm-llama-tiny-quick/result.json
  innerloop show runs/20260102T030405Z-vllm-llama-tiny-quick-layers
  innerloop show experiments/20260102T030405Z-compare            a comparison, and the outcome of its conditions
  innerloop show RUN --trace
  innerloop show RUN --json | python -m json.tool --indent 1 | less

If innerloop was killed during a run, the result is rebuilt from the run's records, and the report says so.
docs/reference/result.md explains the figures. Exit codes: 0 printed, even if the run itself failed;
2 there is no such run, or it is still running.
"""


def parser() -> CommandLine:
    out = command_line("show", "Print the report of an earlier run or experiment.", EXAMPLES)
    out.add_argument("run", metavar="RUN", help=f"{NAMED}; or a result.json")
    out.add_argument("--json", action="store_true", help="print the result as one JSON document on stdout")
    out.add_argument(
        "--trace",
        action="store_true",
        help="write trace.perfetto-trace (for ui.perfetto.dev) instead of printing the report",
    )
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    if arguments.trace and arguments.json:
        raise Refused("--trace and --json cannot be combined; use one or the other")
    from innerloop.harness import store
    from innerloop.harness.experiments.folder import holds_experiment
    from innerloop.harness.session.reopen import result_of, write_trace
    from innerloop.harness.store.find import find_run

    run = find_run(arguments.run)
    if holds_experiment(run):
        return show_experiment(run, arguments)
    if arguments.trace:
        say(str(write_trace(run)))
        return EXIT_OK
    from innerloop.harness.report.layers import print_waterfall
    from innerloop.harness.report.run import print_report

    stored = store.open(run)
    if isinstance(stored, store.StoredLadder):
        print_json(stored.document()) if arguments.json else print_waterfall(stored.waterfall(), stored.folder)
        return EXIT_OK
    result, document = result_of(stored)
    print_json(document) if arguments.json else print_report(result, stored.folder)
    return EXIT_OK


def show_experiment(folder: Path, arguments: argparse.Namespace) -> int:
    """What an experiment found so far; the exit code is 0 whatever that is."""
    if arguments.trace:
        raise Refused(f"--trace: {folder} is an experiment; name one of the runs in {folder / 'runs'}")
    from innerloop.harness.experiments import command
    from innerloop.harness.experiments.asking import NOISE
    from innerloop.harness.experiments.compared import compared
    from innerloop.harness.experiments.folder import read_manifest
    from innerloop.harness.experiments.noise import noise_of, tell_noise
    from innerloop.harness.experiments.output import Output
    from innerloop.harness.experiments.sides import question_of, rules_of
    from innerloop.harness.experiments.telling import tell

    manifest, to = read_manifest(folder), Output(arguments.json)
    if manifest.design in command.CONCLUDE:
        return command.show(folder, manifest.design, arguments.json)
    if manifest.design == NOISE:
        tell_noise(noise_of(folder), to)
    else:
        tell(compared(folder, question_of(manifest)), rules_of(manifest), to)
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
