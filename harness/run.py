"""`python -m harness.run`: runs one engine on one workload and reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_OK, Refused
from innerloop.harness.cli.output import print_json
from innerloop.harness.session.arguments import options_of, parser, request_of

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.profiling.choice import Profile
    from innerloop.harness.spec.model import RunSpec


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    from innerloop.harness.machine import this_machine
    from innerloop.harness.profiling.choice import choose
    from innerloop.harness.spec.resolve import resolve

    machine = this_machine()
    profile = choose(arguments.profile, arguments.profile_steps)
    if arguments.trials is not None and arguments.layers is None:
        raise Refused("--trials goes with --layers")
    spec = resolve(request_of(arguments), machine)
    start = run_one if arguments.layers is None else run_layers
    return start(arguments, spec, machine, profile)


def run_one(arguments: argparse.Namespace, spec: RunSpec, machine: Machine, profile: Profile | None) -> int:
    from rich.console import Console

    from innerloop.harness.report.run import print_failure, print_report
    from innerloop.harness.result.exit_code import exit_code
    from innerloop.harness.session import run as session
    from innerloop.harness.session.plan import plan, print_plan
    from innerloop.harness.store.run_folder import default_folder
    from innerloop.harness.store.typed import document

    if arguments.dry_run:
        resolved = plan(spec, machine, profile, arguments.out)
        if arguments.json:
            print_json(resolved)
        else:
            print_plan(resolved, Console())
        return EXIT_OK
    out = arguments.out or default_folder(spec.engine.name, spec.model.name, spec.workload.name)
    console = Console(stderr=True)
    result, folder = session.run(spec, machine, options_of(arguments, out, profile), console)
    if arguments.json:
        print_json(document(result))
        print_failure(result, console)
    else:
        print_report(result, folder)
    return exit_code(result)


def run_layers(arguments: argparse.Namespace, spec: RunSpec, machine: Machine, profile: Profile | None) -> int:
    """The same at several layers: every run in a folder of its own, and the waterfall over them."""
    from rich.console import Console

    from innerloop.harness.experiments import ladder as layers
    from innerloop.harness.experiments.plan import plan_layers, print_plan_of_layers
    from innerloop.harness.report.layers import print_waterfall
    from innerloop.harness.spec.resolve import resolve
    from innerloop.harness.store.typed import document

    if arguments.layer is not None:
        raise Refused("--layer and --layers: give one of them")
    ladder = layers.chosen(spec.engine, arguments.layers, arguments.trials, profiled=profile is not None)

    def spec_of(layer: str) -> RunSpec:
        return resolve(replace(request_of(arguments), layer=layer), machine)

    out = arguments.out or layers.default_folder(spec)
    if arguments.dry_run:
        resolved = plan_layers(ladder, spec_of, machine, profile, out)
        if arguments.json:
            print_json(resolved)
        else:
            print_plan_of_layers(resolved, Console())
        return EXIT_OK
    options = options_of(arguments, out, profile)
    waterfall, folder = layers.run(ladder, spec_of, machine, options, Console(stderr=True))
    if arguments.json:
        print_json(document(waterfall))
    else:
        print_waterfall(waterfall, folder)
    return layers.exit_code(waterfall)


if __name__ == "__main__":
    sys.exit(main())
