"""`innerloop gate`: may this pass? An exit code for CI systems, from conditions on figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from innerloop.harness.cli.arguments import NAMED, CommandLine, command_line
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, EXIT_WORSE, STOPPED
from innerloop.harness.experiments.asking import add_question, add_rules, asked
from innerloop.harness.experiments.output import add_output, output

EXAMPLES = """\
examples:
  innerloop gate baseline experiments/20260102T030405Z-trials
  innerloop gate experiments/20260102T030405Z-compare --fail-if 'output_tokens_per_s < 0.97 * baseline'
  innerloop gate baseline last --fail-if 'latency_s.itl.p99 > 50 ms' --fail-if 'ttft.p50 > 110% of baseline'
  innerloop gate baseline last --markdown summary.md --junit gate.xml

BASELINE and RUN are runs, or experiments with several trials of the same thing. A single experiment has both sides, and
A is the baseline. A condition is decided by the 95 % interval. It fails if the whole interval is beyond the threshold,
and passes if the whole interval is on the other side. Otherwise it is undecided, which counts as failed; with only one
or two runs per side, it is always undecided. The metrics are those that innerloop compare prints.
docs/how-to/gate-in-ci.md shows a complete CI job.

"""
CODES = {
    EXIT_OK: "passed: no --fail-if condition is met",
    EXIT_REFUSED: "refused: the runs cannot be compared (different requests or machines), or the input is wrong",
    EXIT_WORSE: "failed: a --fail-if condition is met",
    EXIT_UNDECIDED: "undecided: no condition failed, but one is undecided, or doubtful because of a suspect run",
}


def parser() -> CommandLine:
    lines = [f"  {code:<3} {what}" for code, what in CODES.items()]
    stopped = f"  {', '.join(map(str, STOPPED))}: ended by a signal"
    codes = "\n".join(("exit codes (1 means a bug in innerloop):", *lines, stopped))
    out = command_line("gate", "Pass or fail a run based on conditions on its metrics.", EXAMPLES + codes)
    out.add_argument("baseline", metavar="BASELINE", help=f"{NAMED}; without RUN: an experiment with both sides")
    out.add_argument("run", metavar="RUN", nargs="?", help="the run or experiment to check, named likewise")
    add_rules(out, "; default: fail if --metric is worse by more than --margin")
    add_question(out)
    add_output(out)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: gate(arguments), keeps=True)  # the code is the answer


def gate(arguments: argparse.Namespace) -> int:
    from innerloop.harness.experiments.conditions import Rules, default_condition
    from innerloop.harness.experiments.stored import compared_runs
    from innerloop.harness.experiments.telling import tell

    what, to = asked(arguments), output(arguments)
    given = what.rules() if what.fail_if else None
    found = compared_runs(arguments.baseline, arguments.run, what)
    if given is None:
        given = Rules((default_condition(found.metric, found.margin),), what.allow_undecided, what.allow_suspect)
    return tell(found, given, to)


if __name__ == "__main__":
    leave(main())
