"""The manifest of a grid: which cells there are, which share a process, which are refused, and what is done already."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from innerloop.harness import __version__
from innerloop.harness.analysis.chunks import tick
from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.cli.secrets import refuse_secrets
from innerloop.harness.experiments import addresses
from innerloop.harness.experiments.axes import Point, cell_names, parsed
from innerloop.harness.experiments.blocks import block_of
from innerloop.harness.experiments.sides import described
from innerloop.harness.profiles import load_model, load_workload
from innerloop.harness.profiles.engines import load_engine, substituted
from innerloop.harness.profiles.settings import parse_settings
from innerloop.harness.profiles.validation import parse_assignments
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.result.identity import key_of, new_id
from innerloop.harness.schema.experiment import VERSION, Cell, Event, Manifest
from innerloop.harness.session.arguments import request_of, words_of
from innerloop.harness.spec.adapter_settings import devices_of, native_settings
from innerloop.harness.spec.labels import parse_labels
from innerloop.harness.spec.resolve import resolve

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.profiles.suites import Suite
    from innerloop.harness.spec.model import RunSpec

SWEEP = "sweep"  # the design
NOT_OF_WORK = ("name", "title", "description", "load", "warmup")  # fields of a workload
INTENSITY = (  # of its load: how much comes at once, and for how long
    "kind", "users", "rest_ms", "arrive_over_s", "duration_s", "requests_per_user", "max_tokens_per_s_per_user",
    "rate_per_s", "rates", "change", "arrivals", "requests", "burstiness", "start", "users_over_time",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """An experiment of many cells, and the specs of those that are run."""

    manifest: Manifest
    specs: dict[str, RunSpec]


def grid_of(points: Sequence[Point], machine: Machine, trials: int, suite: Suite | None, planning: bool) -> Grid:
    """The experiment that measures the points, each in `trials` processes.

    planning: for a machine that need not be this one.

    Raises:
        Refused: a name or value that is wrong wherever it is run; or no point can be run.
    """
    check_names(points)
    place = described(machine)
    cells, specs = [], {}
    for name, point in zip(cell_names(points), points, strict=True):
        tick()
        arguments = parsed(point.words)
        arguments.dry_run = planning
        try:
            spec = resolve(request_of(arguments), machine)
            native_settings(spec)
            cells.append(_cell(name, point, arguments, spec, place))
            specs[name] = spec
        except InnerloopError as error:
            key = hashlib.sha256(json.dumps(point.words).encode()).hexdigest()
            cells.append(Cell(name, {"arguments": list(point.words)}, key, point.at, refused=str(error)))
    if not specs:
        reasons = list(dict.fromkeys(cell.refused or "" for cell in cells))
        raise Refused(f"none of the {len(cells)} points can be run: {reasons[0]}", *reasons[1:])
    manifest = Manifest(
        schema_version=VERSION,
        innerloop_version=__version__,
        id=new_id(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        design=SWEEP,
        cells=tuple(cells),
        blocks=trials,
        order="random",
        seed=secrets.randbits(32),
        machine=place,
        options={
            "folder": os.getcwd(),
            "metric": PRIMARY,
            "suite": None if suite is None else suite.model_dump(mode="json"),
        },
        kept=True,
    )
    return Grid(manifest, specs)


def _cell(name: str, point: Point, arguments: argparse.Namespace, spec: RunSpec, machine: Mapping[str, object]) -> Cell:
    try:
        address = addresses.address_of(spec, machine, vars(arguments))
    except Refused:
        if not arguments.dry_run:
            raise
        address = None
    load = json.dumps([spec.load, arguments.timeout, arguments.cpus, arguments.harness_cpus], sort_keys=True)
    arguments.dry_run = False
    return Cell(
        name=name,
        request={"arguments": words_of(arguments)},
        key=key_of(spec.describe()),
        at=point.at,
        process=hashlib.sha256(load.encode()).hexdigest()[:12],
        address=address,
        work=_work(spec),
        devices=devices_of(spec) if spec.device == "cuda" else 1,
        substituted=substituted(spec.engine, spec.device),
    )


def _work(spec: RunSpec) -> str:
    """What is computed: the model and the lengths of the requests, however many of them come at once."""
    workload = spec.workload.model_dump(mode="json")
    requests = {name: value for name, value in workload.items() if name not in NOT_OF_WORK}
    requests["load"] = {name: value for name, value in workload["load"].items() if name not in INTENSITY}
    asked = {"model": spec.model.name, "args": dict(spec.model_args), "requests": requests}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def check_names(points: Sequence[Point]) -> None:
    """
    Raises:
        Refused: an engine, a model, a workload or a setting that there is not; a credential, which would be stored.
    """
    seen: set[Any] = set()
    for point in points:
        arguments = parsed(point.words)
        if (stored := (tuple(arguments.engine_arg), tuple(arguments.label))) not in seen:
            seen.add(stored)
            refuse_secrets(parse_assignments(arguments.engine_arg, "--engine-arg"), "--engine-arg")
            parse_labels(arguments.label)
        if arguments.engine is not None and arguments.engine not in seen:
            seen.add(arguments.engine)
            load_engine(arguments.engine)
        for name, own, look_up in (
            (arguments.model, tuple(arguments.model_arg), load_model),
            (arguments.workload, tuple(arguments.workload_arg), load_workload),
        ):
            if name is not None and (look_up, name, own) not in seen:
                seen.add((look_up, name, own))
                look_up(name, own)
        if tuple(arguments.set) not in seen:
            seen.add(tuple(arguments.set))
            parse_settings(arguments.set)


def done_before(manifest: Manifest) -> Iterator[Event]:
    """The jobs whose cells have been measured on this machine: each block takes a run of its own, the newest first."""
    for cell in manifest.measured:
        runs = addresses.known(cell.address) if cell.address else []
        for block, one in zip(range(1, manifest.blocks + 1), reversed(runs), strict=False):
            state = (one["boot"], one["time"], one["status"], one["figures"], None, one["run"])
            doubts = tuple(one.get("doubts", ()))
            yield Event("done", cell.name, block, *state, values=one.get("values", {}), doubts=doubts)


def processes(manifest: Manifest, done: Sequence[Event] = ()) -> int:
    """How many processes, and so loads of an engine, what is not done takes."""
    known = {event.job for event in done}
    share = {cell.name: cell.process or cell.name for cell in manifest.cells}
    return sum(
        len({share[job.cell] for job in block_of(manifest, block) if job.name not in known})
        for block in range(1, manifest.blocks + 1)
    )
