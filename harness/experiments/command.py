"""`innerloop run --layers`: the same requests at several layers, each run in a folder of its own, and the waterfall."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json, printing
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.session.arguments import options_of, request_of

if TYPE_CHECKING:
    from innerloop.harness.spec.model import RunSpec


def run_layers(arguments: argparse.Namespace) -> int:
    """Runs, or plans with --dry-run, what the command line asks for, and prints it."""
    from innerloop.harness.cli.console import PlainConsole
    from innerloop.harness.experiments import ladder as layers
    from innerloop.harness.experiments.plan import plan_layers, print_plan_of_layers
    from innerloop.harness.machine import this_machine
    from innerloop.harness.profiling.choice import choose
    from innerloop.harness.report.layers import print_waterfall
    from innerloop.harness.spec.resolve import resolve
    from innerloop.harness.store.typed import document

    machine, profile = this_machine(), choose(arguments.profiler, arguments.profiler_steps)
    spec = resolve(request_of(arguments), machine)
    ladder = layers.chosen(spec.engine, arguments.layers, arguments.trials, profiled=profile is not None)

    def spec_of(layer: str) -> RunSpec:
        return resolve(replace(request_of(arguments), layer=layer), machine)

    out = arguments.out or layers.default_folder(spec)
    if arguments.dry_run:
        resolved = plan_layers(ladder, spec_of, machine, profile, out)
        if arguments.json:
            print_json(document(resolved), "plan_of_layers")
        else:
            print_plan_of_layers(resolved, PlainConsole())
        return EXIT_OK
    options = options_of(arguments, out, profile)
    console = progress_console()
    waterfall, folder = layers.run(ladder, spec_of, machine, options, console)
    with printing(folder, console):
        if arguments.json:
            print_json(document(waterfall))
        else:
            print_waterfall(waterfall, folder)
    return layers.exit_code(waterfall, arguments.strict)
