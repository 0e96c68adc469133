"""The experiment that a command line of `innerloop run` asks for: `--layers`, `--trials`, `--until`, `--windows`."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness import __version__
from innerloop.harness.analysis.statistics import LEAST_BLOCKS
from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.comparison import metric_named
from innerloop.harness.experiments.enough import refuse_too_few
from innerloop.harness.experiments.layers import PROFILED, chosen
from innerloop.harness.experiments.sides import described
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.result.identity import key_of, new_id
from innerloop.harness.schema.experiment import VERSION, Cell, Manifest
from innerloop.harness.session.arguments import request_of, words_of
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store.run_folder import EXPERIMENTS, default_folder

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.spec.model import RunSpec

LAYERS, TRIALS = "layers", "trials"  # designs
MOST_WINDOWS = 100
MOST_UNTIL = 20  # trials of --until, unless told otherwise
OF_THE_EXPERIMENT = (
    "layers", "trials", "until", "windows", "metric", "out", "json", "strict", "html", "profiler", "profiler_steps",
    "verify",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment and the runs in it: their specs by cell."""

    manifest: Manifest
    specs: dict[str, RunSpec]

    @property
    def default_folder(self) -> Path:
        """Where it lies unless told otherwise: named like a run, for what it has in common."""
        spec = next(iter(self.specs.values()))
        same = {one.workload.name for one in self.specs.values()}
        workload = spec.workload.name if len(same) == 1 else "windows"
        name = default_folder(spec.engine.name, spec.model.name, workload, labels=spec.label.values()).name
        return EXPERIMENTS / f"{name}-{self.manifest.design}"


def requested(arguments: argparse.Namespace, machine: Machine) -> Experiment:
    """
    Raises:
        Refused: flags that do not go together, or a run that cannot be made.
    """
    _check(arguments)
    cells = _layers(arguments, machine) if arguments.layers is not None else _trials(arguments)
    specs = {name: resolve(request_of(one), machine) for name, one in cells.items()}
    metric = metric_named(arguments.metric or PRIMARY)
    for spec in specs.values():
        refuse_too_few([metric], spec.describe())
    profiled = None
    if arguments.profiler is not None:
        profiled = PROFILED if arguments.layers is not None else next(iter(cells))
    manifest = Manifest(
        schema_version=VERSION,
        innerloop_version=__version__,
        id=new_id(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        design=TRIALS if arguments.layers is None else LAYERS,
        cells=tuple(
            Cell(name, {"arguments": words_of(one)}, key_of(specs[name].describe())) for name, one in cells.items()
        ),
        blocks=arguments.trials or (1 if arguments.until is None else MOST_UNTIL),
        order="there and back",
        seed=0,
        machine=described(machine),
        options={
            "folder": os.getcwd(),
            "metric": metric,
            "profiled": profiled,
            "profiler": arguments.profiler,
            "profiler_steps": arguments.profiler_steps,
            "verify": arguments.verify,
        },
        until=arguments.until,
        together=arguments.windows is not None,
    )
    return Experiment(manifest, specs)


def _check(arguments: argparse.Namespace) -> None:
    """Raises: Refused: flags that do not go together."""
    if arguments.layer is not None and arguments.layers is not None:
        raise Refused("--layer and --layers cannot be combined; use one or the other")
    for flag in ("until", "windows"):
        if arguments.layers is not None and getattr(arguments, flag) is not None:
            raise Refused(f"--layers and --{flag} cannot be combined; use one or the other")
    if arguments.windows is not None and arguments.profiler is not None:
        raise Refused("--windows and --profiler cannot be combined: a profiled process has one window")
    if arguments.windows is not None and arguments.verify:
        raise Refused("--windows and --verify cannot be combined: a verified process has one window")
    if arguments.until is not None and (arguments.trials or MOST_UNTIL) < LEAST_BLOCKS:
        raise Refused(f"--until needs {LEAST_BLOCKS} trials or more: fewer give no interval")
    if arguments.metric is not None and arguments.until is None:
        raise Refused("--metric needs --until")


def _alone(arguments: argparse.Namespace, **changes: str) -> argparse.Namespace:
    """The command line of one of the runs: without what concerns all, with `changes`."""
    whole = {**vars(arguments), **dict.fromkeys(OF_THE_EXPERIMENT)}
    return argparse.Namespace(**{**whole, "json": False, "strict": False, "verify": False, **changes})


def _layers(arguments: argparse.Namespace, machine: Machine) -> dict[str, argparse.Namespace]:
    engine = resolve(request_of(_alone(arguments)), machine).engine
    names = chosen(engine, arguments.layers, profiled=arguments.profiler is not None)
    return {name: _alone(arguments, layer=name) for name in names}


def _trials(arguments: argparse.Namespace) -> dict[str, argparse.Namespace]:
    if arguments.windows is None:
        return {"trial": _alone(arguments)}
    names = windows_of(arguments.windows)
    if isinstance(names, int):
        return {f"window{k}": _alone(arguments) for k in range(1, names + 1)}
    if arguments.workload is not None:
        raise Refused(
            "--windows already lists workloads, so leave out --workload; to repeat one workload, use --windows 3 "
            "--workload NAME"
        )
    return dict(zip(cell_names(names), (_alone(arguments, workload=name) for name in names), strict=True))


def windows_of(text: str) -> int | list[str]:
    """How many windows of one load, or the workload of each.

    Raises:
        Refused: none, or more than there are names for.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) == 1 and names[0].isdecimal():
        if not 1 <= int(names[0]) <= MOST_WINDOWS:
            raise Refused(f"--windows: {names[0]} is not a number from 1 to {MOST_WINDOWS}")
        return int(names[0])
    if not 1 <= len(names) <= MOST_WINDOWS:
        raise Refused(f"--windows takes a number, or a comma-separated list of 1 to {MOST_WINDOWS} workloads")
    return names


def cell_names(workloads: Sequence[str]) -> list[str]:
    """A folder's name for each: the workload's, with a number where another one has it."""
    seen: Counter[str] = Counter()
    found = []
    for workload in workloads:
        stem = Path(workload).stem
        seen[stem] += 1
        found.append(stem if seen[stem] == 1 else f"{stem}.{seen[stem]}")
    return found
