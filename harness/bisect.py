"""`innerloop bisect`: which release, or which commit, made it slow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from innerloop.harness.cli.arguments import CommandLine, command_line, path_of, relative, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNDECIDED,
    STOPPED,
    Refused,
    exit_codes,
)

if TYPE_CHECKING:
    from innerloop.harness.experiments.commits import Candidate

EXAMPLES = """\
examples:
  innerloop bisect vllm 0.27..0.32 --base '--workload users-10 --workload-arg load.duration_s=30'
  innerloop bisect vllm 0.30.0,0.31.0,0.32.0 --metric tpot.p50 --effect 10%
  innerloop bisect --checkout ~/vllm --good v0.30.0 --bad main --build 'uv venv' \\
      --build 'uv pip install -e .' --base '--engine vllm --engine-python {dir}/.venv/bin/python'

Each trial runs the first version and another one, in random order. The posterior over culprits determines which version
to test next. The search ends when one answer (which can be "no culprit") is 97 % certain, or after --trials of them.
Then the culprit and the version before it are compared in three trials; the comparison shows which steps and phases
account for the difference. With --checkout, each revision is built once, in its own worktree; {dir} in --base stands
for that folder. See docs/how-to/find-a-regression.md. Exit code 5: undecided.

"""

UNRESOLVED = "unresolved: the trials were inconclusive"


def parser() -> CommandLine:
    out = command_line(
        "bisect",
        "Find the release or commit that made an engine slow.",
        EXAMPLES + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_UNDECIDED, *STOPPED, undecided=UNRESOLVED),
    )
    out.add_argument("engine", nargs="?", metavar="ENGINE", help="an engine whose releases innerloop installs: vllm")
    out.add_argument(
        "versions", nargs="?", metavar="VERSIONS", help="a range such as 0.27..0.32, or a comma-separated list"
    )
    out.add_argument("--base", default="", metavar="ARGUMENTS", help="what to run, as arguments of innerloop run")
    out.add_argument("--metric", metavar="METRIC", help="the metric that got worse; default: output_tokens_per_s")
    out.add_argument(
        "--effect", type=relative, default=0.05, metavar="SHARE", help="the smallest loss to look for; default: 5%%"
    )
    out.add_argument(
        "--trials",
        type=whole(1, 500),
        default=40,
        metavar="N",
        help="maximum number of trials, each a run of the first version and one of another; default: 40",
    )
    git = out.add_argument_group("commits of a git checkout")
    git.add_argument("--checkout", type=path_of, metavar="DIR", help="the repository")
    git.add_argument("--good", metavar="REV", help="a revision that is fast")
    git.add_argument("--bad", metavar="REV", help="a later revision that is slow")
    git.add_argument(
        "--build",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a command that builds a revision, run in its folder without a shell; may be repeated",
    )
    out.add_argument(
        "--out", type=path_of, metavar="DIR", help="the experiment's folder; default: a new one in experiments/"
    )
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    out.add_argument(
        "--dry-run", action="store_true", help="print the versions and how long a run takes at least, and stop"
    )
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: bisect(arguments), keeps=not arguments.dry_run)


def bisect(arguments: argparse.Namespace) -> int:
    from innerloop.harness.experiments.bisecting import BISECT
    from innerloop.harness.experiments.command import finish
    from innerloop.harness.experiments.comparison import metric_named
    from innerloop.harness.experiments.culprit import Asked, bisected, bisection_of, refuse_too_few_versions
    from innerloop.harness.experiments.sides import make
    from innerloop.harness.machine import this_machine
    from innerloop.harness.result.figures import PRIMARY

    what, candidates = candidates_of(arguments)
    asked = Asked(metric_named(arguments.metric or PRIMARY), arguments.effect, arguments.trials)
    refuse_too_few_versions(what, candidates)
    if arguments.dry_run:
        return tell(candidates, arguments.trials, arguments.json)
    folder = make(bisection_of(what, candidates, asked, this_machine()), arguments.out)
    code = finish(folder, BISECT, arguments.json)
    found = bisected(folder)
    return EXIT_UNDECIDED if code == EXIT_OK and found.verdict == "undecided" else code


def candidates_of(arguments: argparse.Namespace) -> tuple[str, list[Candidate]]:
    """What is bisected, and its versions.

    Raises:
        Refused: neither releases nor commits are named, or both.
    """
    from innerloop.harness.environments.versions import expanded
    from innerloop.harness.experiments.culprit import releases_of

    commits = (arguments.checkout, arguments.good, arguments.bad)
    if arguments.engine is not None and any(commits):
        raise Refused("name releases (ENGINE VERSIONS) or commits (--checkout), not both")
    if arguments.engine is not None and arguments.versions is not None:
        names = expanded([f"{arguments.engine}=={one.strip()}" for one in arguments.versions.split(",")])
        return arguments.engine, releases_of(arguments.engine, names, arguments.base)
    if not all(commits):
        raise Refused("name an engine and its versions, or --checkout, --good and --bad", "see innerloop bisect --help")
    from innerloop.harness.experiments.commits import commits_of

    return str(arguments.checkout), commits_of(
        arguments.checkout, arguments.good, arguments.bad, arguments.build, arguments.base
    )


def tell(candidates: Sequence[Candidate], most: int, as_json: bool) -> int:
    """The versions, and how long a run takes at least; of commits, which are not built yet, that is not known."""
    from innerloop.harness.cli.output import print_json, say
    from innerloop.harness.experiments.plan import time_of
    from innerloop.harness.machine import this_machine
    from innerloop.harness.store.typed import document

    names, first = [one.name for one in candidates], candidates[0]
    time = time_of(first.words, this_machine()) if first.source is None else None
    if as_json:
        print_json({"versions": names, "most": most, "a_run": time and document(time)}, "plan_of_bisect")
        return EXIT_OK
    say(*names, f"at most {most} trials of two runs each")
    say("how long a run takes is unknown: nothing is built yet" if time is None else f"a run takes {time.words()}")
    if time is not None:
        say(*(f"  {line}" for line in time.basis))
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
