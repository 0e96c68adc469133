"""`innerloop resume FOLDER`: runs what is left of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.arguments import NAMED_EXPERIMENT, CommandLine, command_line, duration
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNDECIDED,
    EXIT_WORSE,
    STOPPED,
    UNDECIDED,
    exit_codes,
)
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.experiments.asking import NOISE
from innerloop.harness.experiments.output import Output
from innerloop.harness.store.find import find_run

EXAMPLES = """\
examples:
  innerloop resume experiments/20260102T030405Z-compare
  innerloop resume last                                          if that is the experiment that was begun last

An interrupted run is repeated; its partial output is kept alongside the new one. If the machine rebooted during a
trial, the whole trial is repeated. Failed runs are not repeated. Exit codes 4 and 5 come from the --fail-if conditions
given when the experiment was started.

"""


def parser() -> CommandLine:
    out = command_line(
        "resume",
        "Finish an interrupted experiment and print its result.",
        EXAMPLES
        + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_WORSE, EXIT_UNDECIDED, *STOPPED, undecided=UNDECIDED),
    )
    out.add_argument("folder", metavar="FOLDER", help=f"an experiment: {NAMED_EXPERIMENT}")
    out.add_argument(
        "--budget", type=duration, metavar="TIME", help="sweeps only: start no new processes after this time"
    )
    out.add_argument("--on", metavar="CLUSTER", help="sweeps only: run it on a Ray cluster: ray, or ray://HOST:10001")
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(
        lambda: resume(find_run(arguments.folder), Output(arguments.json), arguments.budget, arguments.on), keeps=True
    )


def resume(folder: Path, to: Output, budget_s: float | None = None, on: str | None = None) -> int:
    """Runs what is left and prints it; without a whole block there is nothing to print, and no gate is passed.
    budget_s, on: of a sweep, no process begins later than so many seconds from now; the cluster to run it on."""
    from innerloop.harness.experiments.command import CONCLUDE, finish
    from innerloop.harness.experiments.folder import read_manifest
    from innerloop.harness.experiments.local import go_on
    from innerloop.harness.experiments.sides import rules_of
    from innerloop.harness.experiments.telling import tell

    manifest = read_manifest(folder)
    if manifest.design in CONCLUDE:
        return finish(folder, manifest.design, to.json, budget_s=budget_s, on=on)
    console = progress_console()
    rules = rules_of(manifest)
    found, code = go_on(folder, console)
    if found is None:
        console.print(f"no trial of {folder} is complete yet", highlight=False)
        return EXIT_UNDECIDED if rules is not None and code == EXIT_OK else code
    if manifest.design == NOISE:
        from innerloop.harness.experiments.noise import keep

        return keep(folder, to) if code == EXIT_OK else code
    verdict = tell(found, rules, to)
    return verdict if code == EXIT_OK else code


if __name__ == "__main__":
    leave(main())
