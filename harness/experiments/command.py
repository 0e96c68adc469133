"""`innerloop run` where it asks for an experiment, and the rest of one that was begun."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import EXIT_OK, EXIT_UNDECIDED, Refused
from innerloop.harness.cli.output import print_json, printing
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.experiments.bisecting import BISECT
from innerloop.harness.experiments.culprit import WAY, bisected
from innerloop.harness.experiments.finding import found_rate, probing
from innerloop.harness.experiments.folder import failed_jobs, read_events
from innerloop.harness.experiments.grid import SWEEP
from innerloop.harness.experiments.layers import added_by_layers
from innerloop.harness.experiments.local import Way, run_grid, run_left
from innerloop.harness.experiments.plan import plan_experiment, print_experiment
from innerloop.harness.experiments.probes import FIND_RATE, next_probe
from innerloop.harness.experiments.requested import LAYERS, TRIALS, requested
from innerloop.harness.experiments.sides import make
from innerloop.harness.experiments.sweeps import swept
from innerloop.harness.experiments.trials import measured
from innerloop.harness.machine import this_machine
from innerloop.harness.profiling.choice import choose
from innerloop.harness.report.experiment import print_document
from innerloop.harness.schema.bisect import Bisect
from innerloop.harness.schema.find_rate import FindRate
from innerloop.harness.schema.sweep import Sweep
from innerloop.harness.schema.trials import Trials
from innerloop.harness.schema.waterfall import Waterfall
from innerloop.harness.store.typed import document

Document = Waterfall | Trials | Sweep | FindRate | Bisect
CONCLUDE: dict[str, Callable[[Path], Document]] = {
    LAYERS: added_by_layers,
    TRIALS: measured,
    SWEEP: swept,
    FIND_RATE: found_rate,
    BISECT: bisected,
}
"""The designs of `innerloop run`, `sweep`, `suite` and `find-rate`, and how a folder becomes their document."""


WAYS: dict[str, Way] = {SWEEP: (run_grid, None), FIND_RATE: (probing, next_probe), BISECT: WAY}


def run_experiment(arguments: argparse.Namespace) -> int:
    """Runs, or plans with --dry-run, what the command line asks for, and prints it."""
    machine = this_machine()
    wanted = requested(arguments, machine)
    out = arguments.out or wanted.default_folder
    profile = choose(arguments.profiler, arguments.profiler_steps)
    if arguments.dry_run:
        resolved = plan_experiment(wanted, machine, profile, out)
        if arguments.json:
            print_json(*resolved.described())
        else:
            print_experiment(resolved, PlainConsole())
        return EXIT_OK
    folder = make(wanted.manifest, arguments.out, wanted.default_folder)
    code = finish(folder, wanted.manifest.design, arguments.json, arguments.strict)
    if arguments.html is not None:
        from innerloop.harness.experiments.paged import experiment_page, put

        put(arguments.html, lambda: experiment_page(folder), progress_console())
    return code


def finish(
    folder: Path,
    design: str,
    as_json: bool,
    strict: bool = False,
    budget_s: float | None = None,
    on: str | None = None,
) -> int:
    """Runs what is left of an experiment and prints its document; the exit code. strict: a suspect run has its own.
    budget_s: no process begins later than so many seconds from now. on: the cluster to run it on.

    Raises:
        Refused: it cannot go on here.
    """
    console = progress_console()
    elsewhere = None
    if on is not None:
        if design != SWEEP:
            raise Refused(f"--on is for sweeps and suites; a {design} runs on one machine")
        from innerloop.harness.experiments.cluster import carry_out_on

        elsewhere = partial(carry_out_on, on)
    code = run_left(folder, console, CONCLUDE[design], budget_s, WAYS.get(design), elsewhere)
    try:
        found = CONCLUDE[design](folder)
    except Refused as refusal:
        for line in (
            str(refusal),
            *(f"{event.job} failed: {event.reason}" for event in failed_jobs(read_events(folder))),
        ):
            console.print(line, highlight=False, markup=False)
        return code
    with printing(folder, console):
        tell(found, folder, as_json)
    return EXIT_UNDECIDED if strict and code == EXIT_OK and found.status == "suspect" else code


def show(folder: Path, design: str, as_json: bool) -> int:
    """Prints what an experiment found so far.

    Raises:
        Refused: no run came to its end.
    """
    tell(CONCLUDE[design](folder), folder, as_json)
    return EXIT_OK


def tell(found: Document, folder: Path, as_json: bool) -> None:
    if as_json:
        print_json(document(found))
    else:
        print_document(found, folder)
