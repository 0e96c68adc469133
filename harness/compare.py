"""`innerloop compare`: is B faster than A, by how much, how sure is that, and where is the difference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from innerloop.harness.cli.arguments import NAMED, CommandLine, command_line, path_of, relative, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNDECIDED,
    EXIT_WORSE,
    STOPPED,
    UNDECIDED,
    Refused,
    exit_codes,
)
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.experiments.asking import Asked, add_question, add_rules, asked
from innerloop.harness.experiments.output import Output, add_output, output

OF_AN_EXPERIMENT = ("trials", "until", "effect", "verify", "profiler", "out", "dry_run")
EXAMPLES = """\
examples:
  innerloop compare runs/before runs/after
  innerloop compare 20260102T030405Z-vllm-llama-tiny-quick last
  innerloop compare A B --metric latency_s.itl.p99
  innerloop compare A B --json
  innerloop compare A B --html page.html
  innerloop compare --base '--engine vllm --workload users-10' --change '--set max_batch_size=16' --trials 8
  innerloop compare --base '--engine vllm' --change '--engine-arg block_size=32' --effect 3%
  innerloop compare --base '--engine vllm' --change '--set max_batch_size=16' --until 1%
  innerloop compare --base '--engine vllm' --change '--environment mine' --dry-run
  innerloop compare --base '--engine vllm' --change '--set max_batch_size=16' --fail-if 'itl.p99 > 1.05 * baseline'
  innerloop compare experiments/20260102T030405Z-compare

With stored runs A and B, nothing is run. One run per side shows how far apart the two are, but not whether the
difference would repeat: that takes --trials. Both sides get the arguments in --base; B also gets those in --change.
Each trial runs both sides in random order, each in a fresh process. `innerloop resume` finishes an interrupted
comparison.
docs/method/comparisons.md explains metrics, verdicts and the parts of a difference; docs/how-to/compare-two-versions.md
shows a complete example. Exit codes 4 and 5 occur only with --fail-if.

"""


def parser() -> CommandLine:
    out = command_line(
        "compare",
        "Compare two runs, or two configurations: what differs, by how much, and in which steps and phases.",
        EXAMPLES
        + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_WORSE, EXIT_UNDECIDED, *STOPPED, undecided=UNDECIDED),
    )
    out.add_argument(
        "a",
        metavar="A",
        nargs="?",
        help=f"{NAMED}; without B: an experiment with both sides",
    )
    out.add_argument("b", metavar="B", nargs="?", help="the run or experiment to compare with A, named likewise")
    out.add_argument("--base", metavar="ARGUMENTS", help="arguments of innerloop run for both sides")
    out.add_argument("--change", metavar="ARGUMENTS", help="additional arguments for side B")
    out.add_argument("--trials", type=whole(1, 100), metavar="N", help="runs per side, interleaved; default: 8")
    out.add_argument(
        "--until",
        type=relative,
        metavar="SHARE",
        help="stop once B / A of --metric is known to +-SHARE, such as 2%%; after --trials (default: 20) at the latest",
    )
    out.add_argument(
        "--effect",
        type=relative,
        metavar="SHARE",
        help="run as many trials as needed to detect a difference of this size, given the noise that innerloop noise "
        "measured here",
    )
    out.add_argument(
        "--out", type=path_of, metavar="DIR", help="the experiment's folder; default: a new one in experiments/"
    )
    out.add_argument(
        "--dry-run",
        action="store_true",
        help="with --base and --change: print the plan of both sides, with the time it takes at least, and stop",
    )
    out.add_argument(
        "--profiler",
        choices=("kernels", "nsys"),
        help="profile the first run of each side, so that costs are also broken down by kernel class",
    )
    out.add_argument(
        "--verify",
        action="store_true",
        help="check the output of the first run of each side against torch; see innerloop run --help",
    )
    add_question(out)
    add_rules(out)
    add_output(out)
    out.add_argument(
        "--html", type=path_of, metavar="FILE", help="also write a self-contained page (pip install 'innerloop[pages]')"
    )
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    ran = arguments.base is not None and not arguments.dry_run
    return as_command(lambda: compare(arguments), keeps=ran or bool(arguments.fail_if))


def compare(arguments: argparse.Namespace) -> int:
    if arguments.junit is not None and not arguments.fail_if:
        raise Refused("--junit needs --fail-if: it reports the conditions")
    to = output(arguments)
    if arguments.html is not None:
        from innerloop.harness.pages.files import check

        check([("--html", arguments.html)], [])
    if arguments.base is not None or arguments.change is not None:
        more = {name: getattr(arguments, name) for name in ("trials", "effect", "until", "verify", "profiler")}
        if arguments.verified and not arguments.verify:
            raise Refused("--verified needs --verify when both sides are run: otherwise nothing checks their output")
        return run(arguments, asked(arguments, **more), to)
    if any(getattr(arguments, name) for name in OF_AN_EXPERIMENT):
        raise Refused("--trials, --until, --effect, --verify, --profiler, --out and --dry-run need --base and --change")
    if arguments.a is None:
        raise Refused("name two runs or an experiment, or give --base and --change")
    from innerloop.harness.experiments.stored import compared_runs
    from innerloop.harness.experiments.telling import tell

    what = asked(arguments)
    rules = what.rules()
    found = compared_runs(arguments.a, arguments.b, what)
    code = tell(found, rules, to)
    if arguments.html is not None:
        from innerloop.harness.experiments.paged import compared_page, put

        put(arguments.html, lambda: compared_page(found, arguments.a, arguments.b), progress_console())
    return code


def run(arguments: argparse.Namespace, what: Asked, to: Output) -> int:
    """Makes an experiment of both sides and runs it."""
    if arguments.base is None or arguments.change is None:
        raise Refused("--base and --change must be given together; --change '' compares A with itself")
    if arguments.a is not None:
        raise Refused(f"--base and --change cannot be combined with stored runs; leave out {arguments.a!r}")
    if arguments.trials is not None and arguments.effect is not None:
        raise Refused("--trials and --effect cannot be combined; use one or the other")
    if arguments.until is not None and arguments.effect is not None:
        raise Refused("--until and --effect cannot be combined; use one or the other")
    from innerloop.harness.experiments.sides import make, new
    from innerloop.harness.machine import this_machine
    from innerloop.harness.resume import resume

    what.rules()  # refused before anything runs
    if arguments.dry_run:
        from innerloop.harness.experiments.plan import print_sides

        print_sides(arguments.base, arguments.change, what, arguments.out, to.json)
        return EXIT_OK
    folder = make(new(arguments.base, arguments.change, what, this_machine()), arguments.out)
    code = resume(folder, to)
    if arguments.html is not None:
        from innerloop.harness.experiments.paged import experiment_page, put

        put(arguments.html, lambda: experiment_page(folder), progress_console())
    return code


if __name__ == "__main__":
    leave(main())
