"""`innerloop compare`: is B faster than A, by how much, how sure is that, and where is the difference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.arguments import CommandLine, command_line, relative, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, STOPPED, Refused, exit_codes
from innerloop.harness.cli.output import print_json

if TYPE_CHECKING:
    from innerloop.harness.experiments.comparison import Question
    from innerloop.harness.schema.comparison import Comparison

EXAMPLES = """\
examples:
  innerloop compare runs/before runs/after
  innerloop compare 20260102T030405Z-vllm-llama-tiny-quick last
  innerloop compare A B --metric latency_s.itl.p99
  innerloop compare A B --json
  innerloop compare --base '--engine vllm --workload users-10' --change '--set max_batch_size=16' --trials 8
  innerloop compare experiments/20260102T030405Z-compare

Given A and B, nothing is run. One run on each side shows how far apart those two are, but not whether the difference
would repeat: that takes --trials. Both sides get the arguments of `innerloop run` in --base, B also those in --change.
Each block runs both sides in random order, each in a fresh process. `innerloop resume` finishes what was interrupted.
docs/method/comparisons.md explains figures, verdicts and parts.

"""


def parser() -> CommandLine:
    out = command_line(
        "compare",
        "Compare two runs, or two ways to run: what differs, by how much, and in which steps and phases.",
        EXAMPLES + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, *STOPPED),
    )
    out.add_argument(
        "a",
        metavar="A",
        nargs="?",
        help="a run's folder, its name in runs/, or the word last; without B: an experiment",
    )
    out.add_argument("b", metavar="B", nargs="?", help="the run to compare with A")
    out.add_argument("--base", metavar="ARGUMENTS", help="run both sides, with these arguments of innerloop run")
    out.add_argument("--change", metavar="ARGUMENTS", help="further arguments for side B")
    out.add_argument("--trials", type=whole(1, 100), metavar="N", help="runs of each side, interleaved; default: 8")
    out.add_argument(
        "--out", type=Path, metavar="DIR", help="the experiment's folder; default: a new one in experiments/"
    )
    out.add_argument("--metric", metavar="FIGURE", help="the primary figure; default: output_tokens_per_s")
    out.add_argument(
        "--margin",
        type=relative,
        default=0.02,
        metavar="SHARE",
        help="smaller differences count as none; default: 2%%",
    )
    out.add_argument("--no-why", dest="why", action="store_false", help="do not analyse where the difference is")
    out.add_argument("--other-work", action="store_true", help="compare runs even if their requests differ")
    out.add_argument("--other-machine", action="store_true", help="compare runs even if their machines differ")
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    from innerloop.harness.experiments.comparison import Question, metric_named
    from innerloop.harness.result.figures import PRIMARY

    question = Question(
        metric=metric_named(arguments.metric or PRIMARY),
        margin=arguments.margin,
        other_work=arguments.other_work,
        other_machine=arguments.other_machine,
        why=arguments.why,
    )
    if arguments.base is not None or arguments.change is not None:
        return run(arguments, question)
    if arguments.trials is not None or arguments.out is not None:
        raise Refused("--trials and --out need --base and --change")
    found = stored(arguments, question)
    if arguments.json:
        from innerloop.harness.store.typed import document

        print_json(document(found))
        return EXIT_OK
    from innerloop.harness.report.comparison import print_comparison

    print_comparison(found)
    return EXIT_OK


def stored(arguments: argparse.Namespace, question: Question) -> Comparison:
    """Of two runs or of an experiment that are there."""
    from innerloop.harness.experiments.compared import compared
    from innerloop.harness.experiments.comparison import comparison
    from innerloop.harness.experiments.stored import member

    if arguments.a is None:
        raise Refused("name two runs or an experiment, or give --base and --change")
    if arguments.b is None:
        return compared(Path(arguments.a), question)
    return comparison([(member(arguments.a), member(arguments.b))], question)


def run(arguments: argparse.Namespace, question: Question) -> int:
    """Makes an experiment of both sides and runs it."""
    if arguments.base is None or arguments.change is None:
        raise Refused("--base and --change need each other; --change '' compares A with itself")
    if arguments.a is not None:
        raise Refused(f"--base and --change cannot be combined with stored runs; leave out {arguments.a!r}")
    from innerloop.harness.experiments.sides import make, new
    from innerloop.harness.machine import this_machine
    from innerloop.harness.resume import resume

    manifest = new(arguments.base, arguments.change, arguments.trials or 8, question, this_machine())
    return resume(make(manifest, arguments.out), arguments)


if __name__ == "__main__":
    leave(main())
