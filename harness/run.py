"""`innerloop run`: runs one engine on one workload and reports."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK, Refused
from innerloop.harness.cli.output import print_json, printing, tell
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.session.arguments import parser, request_of

OF_AN_EXPERIMENT = ("layers", "trials", "until", "windows", "metric")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: run(arguments), keeps=not arguments.dry_run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.html is not None:
        from innerloop.harness.pages.files import check

        check([("--html", arguments.html)], [])
    if may_have_axes(arguments):
        from innerloop.harness.experiments.axes import axes_of
        from innerloop.harness.experiments.sweeping import run_axes

        if axes_of(arguments):
            return run_axes(arguments)
    if arguments.budget is not None or arguments.fresh:
        raise Refused("--budget and --fresh need an option with several values, such as --engine vllm,torch")
    if any(getattr(arguments, name) is not None for name in OF_AN_EXPERIMENT):
        from innerloop.harness.experiments.command import run_experiment

        return run_experiment(arguments)
    return plan_one(arguments) if arguments.dry_run else run_one(arguments)


def may_have_axes(arguments: argparse.Namespace) -> bool:
    """Whether an option may have several values: a comma, or a range of versions."""
    values = [arguments.engine or "", arguments.model or "", arguments.workload or "", *arguments.set]
    return any("," in value or ".." in value for value in values)


def plan_one(arguments: argparse.Namespace) -> int:
    """Prints what would be done."""
    from innerloop.harness.analysis.chunks import said
    from innerloop.harness.cli.console import PlainConsole
    from innerloop.harness.machine import this_machine
    from innerloop.harness.profiling.choice import choose
    from innerloop.harness.session.plan import plan
    from innerloop.harness.session.plan_words import print_plan
    from innerloop.harness.spec.resolve import resolve
    from innerloop.harness.store.typed import document

    machine, profile = this_machine(), choose(arguments.profiler, arguments.profiler_steps)
    with said("drawing the prompts", tell):
        resolved = plan(resolve(request_of(arguments), machine), machine, profile, arguments.out)
    if arguments.json:
        print_json(document(resolved), "plan")
    else:
        print_plan(resolved, PlainConsole())
    return EXIT_OK


def run_one(arguments: argparse.Namespace) -> int:
    """Runs it and prints its result."""
    from innerloop.harness.report.run import print_failure, print_report
    from innerloop.harness.result.exit_code import exit_code
    from innerloop.harness.session.start import start
    from innerloop.harness.store.typed import document

    console = progress_console()
    result, folder = start(arguments, console)
    with printing(folder, console):
        if arguments.json:
            print_json(document(result))
            print_failure(result, console)
        else:
            print_report(result, folder)
    if arguments.html is not None:
        from innerloop.harness.experiments.paged import put
        from innerloop.harness.pages.run import run_page

        put(arguments.html, lambda: run_page(result, folder), console)
    return exit_code(result, arguments.strict)


if __name__ == "__main__":
    leave(main())
