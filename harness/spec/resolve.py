"""A request into a run: names, then what this machine can do, then numbers, all checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from innerloop.harness import environments
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.secrets import refuse_secrets
from innerloop.harness.environments import registered
from innerloop.harness.profiles import (
    ModelProfile,
    Seeds,
    WorkloadProfile,
    engines,
    load_model,
    load_workload,
    parse_seeds,
)
from innerloop.harness.profiles.engines import EngineProfile
from innerloop.harness.profiles.settings import parse_settings, resolve_settings
from innerloop.harness.profiles.slo import parse_slo
from innerloop.harness.profiles.sources import CONFIG, weights_folder
from innerloop.harness.profiles.validation import parse_assignments
from innerloop.harness.schema.goodput import Limit
from innerloop.harness.spec import preconditions as checks
from innerloop.harness.spec.labels import check_note, parse_labels
from innerloop.harness.spec.model import RunRequest, RunSpec

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine

DEFAULT_WORKLOAD = "quick"
LARGE_GPU_BYTES = 22 * 2**30  # what a 24 GB card reports
Found = TypeVar("Found")


def resolve(request: RunRequest, machine: Machine) -> RunSpec:
    """The run that was asked for, with every default filled in.

    Checks names first, then what this machine can do, then numbers.

    Raises:
        Refused: the first kind of check that fails; wrong names are all listed at once.
    """
    named = _names(request)
    engine, device = _engine_and_device(named.engine, request, machine)
    layer = checks.layer(engine, request.layer)
    model = named.model or load_model(_default_model(device, machine), request.model_arg)
    settings, given = resolve_settings(model, device, request.settings)
    if engine.pinned is not None:
        checks.version(engine, device, request)
    checks.quantization(engine, model, device, settings, machine)
    checks.heads(model, settings)
    checks.numbers(model, named.workload, settings)
    checks.paths(model, named.weights, engine, layer)
    refuse_secrets(model.model_dump(mode="json"), "--model")
    refuse_secrets(named.workload.model_dump(mode="json"), "--workload")
    spec = RunSpec(
        engine=engine,
        model=model,
        workload=named.workload,
        layer=layer,
        device=device,
        settings=settings,
        settings_given=given,
        engine_args=named.engine_args,
        seeds=named.seeds,
        weights=named.weights,
        trust_remote_code=request.trust_remote_code,
        engine_python=request.engine_python,
        environment=request.environment or automatic(engine, device, request.engine_python),
        workload_args=parse_assignments(request.workload_arg, "--workload-arg"),
        model_args=parse_assignments(request.model_arg, "--model-arg"),
        label=named.label,
        note=request.note,
        slo=named.slo,
    )
    if not request.planning and not engine.attached:
        checks.devices(spec, machine)
        checks.memory(spec, machine)
    return spec


def automatic(engine: EngineProfile, device: str, engine_python: Path | None) -> str | None:
    """The registered environment that is used without being named."""
    own = engine_python is not None or engine.pinned is not None
    return None if own else registered.automatic(engine, device)


@dataclass(frozen=True, slots=True)
class _Named:
    """What the command line names, looked up; None where a default depends on the machine."""

    engine: EngineProfile | None
    model: ModelProfile | None
    weights: Path | None
    workload: WorkloadProfile
    engine_args: Mapping[str, Any]
    seeds: Seeds
    label: dict[str, str]
    slo: tuple[Limit, ...]


def _names(request: RunRequest) -> _Named:
    """Looks up every name and reads every value before anything depends on the machine.

    Raises:
        Refused: all that is wrong.
    """
    refusals: list[Refused] = []

    def attempt(look_up: Callable[..., Found], *arguments: Any) -> Found | None:
        try:
            return look_up(*arguments)
        except Refused as refusal:
            refusals.append(refusal)
            return None

    engine = attempt(engines.load_engine, request.engine) if request.engine is not None else None
    weights, name = request.weights or weights_folder(request.model), request.model
    if name is None and weights is not None and (weights / CONFIG).is_file():
        name = str(weights)
    model = attempt(load_model, name, request.model_arg) if name is not None else None
    workload = attempt(
        load_workload, DEFAULT_WORKLOAD if request.workload is None else request.workload, request.workload_arg
    )
    attempt(checks.device, request.device)
    if engine is not None:
        attempt(checks.layer, engine, request.layer)
    attempt(parse_settings, request.settings)
    engine_args = attempt(parse_assignments, request.engine_arg, "--engine-arg")
    attempt(refuse_secrets, engine_args or {}, "--engine-arg")
    seeds = attempt(parse_seeds, request.seed)
    label = attempt(parse_labels, request.label)
    attempt(check_note, request.note)
    slo = attempt(parse_slo, request.slo)
    if len(refusals) > 1:
        lines = [line for refusal in refusals for line in (str(refusal), *refusal.details)]
        raise Refused("several arguments are wrong", *lines)
    if refusals:
        raise refusals[0]
    assert workload is not None
    assert engine_args is not None
    assert seeds is not None
    assert label is not None
    assert slo is not None
    return _Named(engine, model, weights, workload, engine_args, seeds, label, slo)


def _engine_and_device(named: EngineProfile | None, request: RunRequest, machine: Machine) -> tuple[EngineProfile, str]:
    """The engine named, else the first that runs here as itself; on the device asked for, else a GPU if it can.

    Raises:
        Refused: it, or none, runs here; says why.
    """
    device, own = request.device, request.engine_python is not None
    if request.environment is not None:
        return _registered(named, request, machine)
    kinds = machine.device_kinds() if device == "auto" else (device,)
    candidates, lacking = [named] if named else engines.runnable(machine), False
    for engine in candidates:
        for kind in kinds:
            if named is None and engines.substituted(engine, kind):
                continue
            brought = own or registered.automatic(engine, kind) is not None
            if named is None and not brought and environments.why_not_made(engine, kind):
                lacking = True
                continue
            if engines.why_not(engine, machine, kind, own_python=brought) is None:
                return engine, kind
    if named is not None and request.planning:
        planned = [kind for kind in (("cuda", "cpu") if device == "auto" else (device,)) if kind in named.environments]
        if planned:
            return named, planned[0]
    if named is None:
        where = "this machine" if device == "auto" else f"device {device} of this machine"
        if lacking:
            raise Refused(
                f"no engine runs on {where}: no environment is here, and innerloop cannot create one, because pip is "
                "told to use no index",
                "docs/how-to/without-a-network.md shows how to register one",
            )
        raise Refused(f"no engine runs on {where}", "innerloop doctor shows what each one needs")
    if device == "auto":
        raise engines.refuse(named, machine)
    why = engines.why_not(named, machine, device, own_python=own)
    raise Refused(f"{named.name} cannot run on {device} here: {why}")


def _registered(named: EngineProfile | None, request: RunRequest, machine: Machine) -> tuple[EngineProfile, str]:
    """The engine and device that the environment asked for is registered for."""
    assert request.environment is not None
    one = registered.load(request.environment)
    if request.engine_python is not None:
        raise Refused("--environment and --engine-python cannot be combined; use one or the other")
    asks = (("engine", named.name if named else None, one.engine), ("device", request.device, one.device))
    for option, given, its in asks:
        if given not in (None, "auto", its):
            raise Refused(f"--environment: {one.name} is for {one.engine} on {one.device}, but --{option} is {given}")
    engine = named or engines.load_engine(one.engine)
    why = engines.why_not(engine, machine, one.device, own_python=True)
    if why is not None and not request.planning:
        raise Refused(f"{engine.name} cannot run on {one.device} here: {why}")
    return engine, one.device


def _default_model(device: str, machine: Machine) -> str:
    """The largest shipped model that runs comfortably: it is what a newcomer's first run takes."""
    if device == "cpu":
        return "llama-tiny"
    memory = machine.gpus[0].memory_bytes or machine.memory_bytes if machine.gpus else 0  # of the one that is used
    return "llama3-8b" if memory >= LARGE_GPU_BYTES else "llama-1b"
