"""`innerloop run` with several values, `sweep` and `suite`: makes a grid's experiment, or its plan, and runs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from innerloop.harness.analysis.chunks import said
from innerloop.harness.cli.arguments import duration
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import EXIT_OK, Refused
from innerloop.harness.cli.output import print_json, tell
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.experiments.axes import OF_ALL, Point, axes_of, points_of_run, points_of_suite
from innerloop.harness.experiments.command import finish
from innerloop.harness.experiments.estimates import plan_of
from innerloop.harness.experiments.grid import SWEEP, done_before, grid_of
from innerloop.harness.experiments.sides import make
from innerloop.harness.machine import this_machine
from innerloop.harness.machine.known_gpus import with_gpu
from innerloop.harness.pages.files import check
from innerloop.harness.profiles.suites import Suite
from innerloop.harness.report.sweep_plan import print_plan
from innerloop.harness.session.arguments import words_of
from innerloop.harness.store import journal
from innerloop.harness.store.run_folder import EXPERIMENTS
from innerloop.harness.store.typed import document

ALONE = ("layers", "until", "windows", "profiler", "metric")  # options that ask for another kind of experiment


@dataclass(frozen=True, slots=True)
class Asked:
    """How a grid is to be run. budget_s: no process begins after so many seconds."""

    trials: int
    budget_s: float | None = None
    fresh: bool = False
    dry_run: bool = False
    json: bool = False
    strict: bool = False
    out: Path | None = None
    plan_for: str | None = None
    on: str | None = None
    html: Path | None = None


def run_axes(arguments: argparse.Namespace) -> int:
    """
    Raises:
        Refused: options that do not go together, or nothing can be run.
    """
    for name in ALONE:
        if getattr(arguments, name) is not None:
            several = ", ".join(axes_of(arguments))
            raise Refused(f"--{name} takes one value of each option, but {several} has several; leave out --{name}")
    of_axes = {path.partition(".")[2] for path in axes_of(arguments) if path.startswith("set.")}
    rest = argparse.Namespace(**vars(arguments))
    for name in ("engine", "model", "workload"):
        if name in axes_of(arguments):
            setattr(rest, name, None)
    rest.set = [item for item in arguments.set if item.partition("=")[0].strip() not in of_axes]
    for name in OF_ALL:
        setattr(rest, name, None if name not in ("json", "strict", "fresh", "dry_run") else False)
    asked = Asked(
        trials=arguments.trials or 1,
        budget_s=arguments.budget,
        fresh=arguments.fresh,
        dry_run=arguments.dry_run,
        json=arguments.json,
        strict=arguments.strict,
        out=arguments.out,
        html=arguments.html,
    )
    return run_points(points_of_run(arguments, words_of(rest)), None, asked)


def run_suite(suite: Suite, source: str, arguments: argparse.Namespace) -> int:
    """
    Raises:
        Refused: the suite cannot be made into runs, or none of them can be run.
    """
    asked = Asked(
        trials=arguments.trials or suite.trials,
        budget_s=arguments.budget or budget_of(suite, source),
        fresh=arguments.fresh,
        dry_run=arguments.dry_run,
        json=arguments.json,
        strict=arguments.strict,
        out=arguments.out,
        plan_for=arguments.plan_for,
        on=arguments.on,
        html=arguments.html,
    )
    return run_points(points_of_suite(suite, source), suite, asked)


def budget_of(suite: Suite, source: str) -> float | None:
    if suite.budget is None:
        return None
    try:
        return duration(suite.budget)
    except argparse.ArgumentTypeError as error:
        raise Refused(f"{source}: budget: {error}") from None


def run_points(points: Sequence[Point], suite: Suite | None, asked: Asked) -> int:
    """Runs a grid, or prints its plan."""
    if asked.html is not None:
        check([("--html", asked.html)], [])
    machine = this_machine()
    if asked.plan_for is not None:
        if not asked.dry_run:
            raise Refused("--plan-for needs --dry-run")
        machine = with_gpu(machine, asked.plan_for)
    with said(f"checking {len(points)} cells", tell):
        grid = grid_of(points, machine, asked.trials, suite, planning=asked.dry_run)
        done = [] if asked.fresh else list(done_before(grid.manifest))
    if asked.dry_run:
        plan = plan_of(grid, done, machine, asked.budget_s)
        if asked.json:
            print_json(document(plan), "plan_of_sweep")
        else:
            print_plan(plan, PlainConsole())
        return EXIT_OK
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    name = SWEEP if suite is None else suite.name
    folder = make(grid.manifest, asked.out, EXPERIMENTS / f"{stamp}-{name}")
    console = progress_console()
    if done:
        journal.append(folder, *done)
        words = f"{len(done)} of {len(grid.specs) * asked.trials} runs already exist on this machine"
        console.print(f"{words} and will not be repeated; --fresh repeats them", style="dim")
    for cell in grid.manifest.cells:
        if cell.refused is not None:
            console.print(f"{cell.name} is refused: {cell.refused}", style="dim")
    code = finish(folder, SWEEP, asked.json, asked.strict, asked.budget_s, asked.on)
    if asked.html is not None:
        from innerloop.harness.experiments.paged import experiment_page, put

        put(asked.html, lambda: experiment_page(folder), console)
    return code
