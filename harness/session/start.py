"""A run as a command line asks for it: resolved on this machine, given a folder, run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.words import assignments
from innerloop.harness.machine import this_machine
from innerloop.harness.profiling.choice import choose
from innerloop.harness.schema.spec import Spec
from innerloop.harness.session import run as session
from innerloop.harness.session.arguments import request_of
from innerloop.harness.session.options import options_of
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store.run_folder import default_folder
from innerloop.harness.store.typed import typed

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.schema.result import Result
    from innerloop.harness.spec.model import RunSpec


def start(arguments: argparse.Namespace, console: Console) -> tuple[Result, Path]:
    """Runs what the arguments say and returns the result and its folder, a new one in runs/ unless they name one.

    Raises:
        Refused: nothing was started.
    """
    machine, profile = this_machine(), choose(arguments.profiler, arguments.profiler_steps)
    spec = resolve(request_of(arguments), machine)
    names = (spec.engine.name, spec.model.name, spec.workload.name)
    console.print(headline(spec), style="dim")
    out = arguments.out or default_folder(*names, labels=spec.label.values())
    return session.run(spec, machine, options_of(arguments, out, profile), console)


def headline(spec: RunSpec) -> str:
    """What is about to run, and what was set for it."""
    model = f"{spec.model.name} {spec.settings.dtype}"
    words = (f"{spec.engine.name} {spec.layer}", model, spec.device, spec.workload.name)
    given = assignments(typed(Spec, spec.describe()).given)
    return " · ".join(words) + (f" · {given}" if given else "")
