"""`innerloop noise`: how much two identical runs differ on this machine, and what comparisons can show then."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from innerloop.harness.cli.arguments import NAMED_EXPERIMENT, CommandLine, command_line, path_of, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, STOPPED, Refused, exit_codes
from innerloop.harness.cli.output import print_json
from innerloop.harness.experiments.asking import NOISE, Asked
from innerloop.harness.experiments.output import Output

EXAMPLES = """\
examples:
  innerloop noise --base '--engine vllm --workload users-10' --trials 8
  innerloop noise --base '--engine torch' --metric itl.p99
  innerloop noise experiments/20260102T030405Z-compare         from a comparison with --change ''
  innerloop noise                                              what has been measured on this machine

Runs the same thing twice per trial and stores how much the two runs differ, for this machine, engine, layer, model and
workload. Later comparisons use it as their default --margin, and innerloop compare --effect uses it to choose the
number of trials. Measure again when the machine or its background load has changed. innerloop resume FOLDER finishes an
interrupted measurement.

"""


def parser() -> CommandLine:
    out = command_line(
        NOISE,
        "Measure how much two identical runs differ on this machine, and store it for comparisons.",
        EXAMPLES + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, *STOPPED),
    )
    out.add_argument(
        "experiment", metavar="EXPERIMENT", nargs="?", help=f"a comparison of a run with itself: {NAMED_EXPERIMENT}"
    )
    out.add_argument("--base", metavar="ARGUMENTS", help="what to run, as arguments of innerloop run")
    out.add_argument("--trials", type=whole(3, 100), metavar="N", help="trials, of two runs each; default: 8")
    out.add_argument(
        "--out", type=path_of, metavar="DIR", help="the experiment's folder; default: a new one in experiments/"
    )
    out.add_argument(
        "--dry-run",
        action="store_true",
        help="with --base: print the plan of the runs, with the time they take at least, and stop",
    )
    out.add_argument("--metric", metavar="METRIC", help="the primary metric; default: output_tokens_per_s")
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    ran = arguments.base is not None and not arguments.dry_run
    return as_command(lambda: noise(arguments), keeps=ran)


def noise(arguments: argparse.Namespace) -> int:
    to = Output(arguments.json)
    if arguments.base is None:
        if arguments.dry_run or not arguments.trials is arguments.out is arguments.metric is None:
            raise Refused("--trials, --out, --metric and --dry-run need --base")
        return known(to) if arguments.experiment is None else of_experiment(arguments.experiment, to)
    if arguments.experiment is not None:
        raise Refused(f"--base cannot be combined with a stored experiment; leave out {arguments.experiment!r}")
    from innerloop.harness.experiments.comparison import metric_named
    from innerloop.harness.experiments.sides import make, new
    from innerloop.harness.machine import this_machine
    from innerloop.harness.result.figures import PRIMARY
    from innerloop.harness.resume import resume

    asked = Asked(metric_named(arguments.metric or PRIMARY), why=False, trials=arguments.trials, design=NOISE)
    if arguments.dry_run:
        from innerloop.harness.experiments.plan import print_sides

        print_sides(arguments.base, "", asked, arguments.out, to.json)
        return EXIT_OK
    return resume(make(new(arguments.base, "", asked, this_machine()), arguments.out), to)


def of_experiment(name: str, to: Output) -> int:
    from innerloop.harness.experiments.noise import keep
    from innerloop.harness.store.find import find_run

    return keep(find_run(name), to)


def known(to: Output) -> int:
    from innerloop.harness.report.noise import print_all
    from innerloop.harness.store import noise_file
    from innerloop.harness.store.typed import document

    found = noise_file.every()
    if to.json:
        print_json({"noise": [document(one) for one in found]}, "noise_list")
    else:
        print_all(found)
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
