"""`innerloop compare A B`: is B faster than A, by how much, how sure is that, and where is the difference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from innerloop.harness.cli.arguments import CommandLine, command_line, relative
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, exit_codes
from innerloop.harness.cli.output import print_json

EXAMPLES = """\
examples:
  innerloop compare runs/before runs/after
  innerloop compare 20260102T030405Z-vllm-llama-tiny-quick last
  innerloop compare A B --metric latency_s.itl.p99
  innerloop compare A B --json

Nothing is run. One run on each side says how far apart they are, not whether other runs would be: that takes trials.
How figures, verdicts and parts are worked out: docs/method/comparisons.md.

"""


def parser() -> CommandLine:
    out = command_line(
        "compare",
        "What differs between two runs, how far apart their figures are, and in which steps and phases.",
        EXAMPLES + exit_codes(EXIT_OK, EXIT_REFUSED),
    )
    out.add_argument("a", metavar="A", help="a run's folder, its name in runs/, or: last")
    out.add_argument("b", metavar="B", help="the run that is set against it")
    out.add_argument("--metric", metavar="FIGURE", help="the figure that is asked about; default: output_tokens_per_s")
    out.add_argument(
        "--margin", type=relative, default=0.02, metavar="PART", help="what counts as no difference; default: 2%%"
    )
    out.add_argument(
        "--no-why", dest="why", action="store_false", help="leave out where the difference is: steps are not read"
    )
    out.add_argument("--other-work", action="store_true", help="compare runs of other requests, too")
    out.add_argument("--other-machine", action="store_true", help="compare runs of other machines, too")
    out.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    from innerloop.harness.experiments.comparison import Question, comparison, metric_named
    from innerloop.harness.experiments.stored import member
    from innerloop.harness.result.figures import PRIMARY
    from innerloop.harness.store.typed import document

    question = Question(
        metric=metric_named(arguments.metric or PRIMARY),
        margin=arguments.margin,
        other_work=arguments.other_work,
        other_machine=arguments.other_machine,
        why=arguments.why,
    )
    found = comparison([(member(arguments.a), member(arguments.b))], question)
    if arguments.json:
        print_json(document(found))
        return EXIT_OK
    from innerloop.harness.report.comparison import print_comparison

    print_comparison(found)
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
