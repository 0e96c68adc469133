"""What a run is: profiles, settings and the command line, resolved and checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments import registered
from innerloop.harness.profiles import (
    ModelProfile,
    Seeds,
    Settings,
    WorkloadProfile,
    engines,
    load_model,
    load_workload,
    parse_seeds,
)
from innerloop.harness.profiles.settings import parse_settings, resolve_settings
from innerloop.harness.profiles.validation import parse_assignments
from innerloop.harness.spec import preconditions as checks

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.profiles.engines import EngineProfile

DEFAULT_WORKLOAD = "quick"
LARGE_GPU_BYTES = 22 * 2**30  # what a 24 GB card reports
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says. None: not given."""

    engine: str | None = None
    model: str | None = None
    workload: str | None = None
    set: tuple[str, ...] = ()
    engine_arg: tuple[str, ...] = ()
    model_arg: tuple[str, ...] = ()
    workload_arg: tuple[str, ...] = ()
    layer: str | None = None
    seed: str | int = 0
    device: str = "auto"
    weights: Path | None = None
    engine_python: Path | None = None
    environment: str | None = None
    trust_remote_code: bool = False
    planning: bool = False  # for a machine that need not be this one: nothing is refused for what this one lacks


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run, validated. `settings_given` and `engine_args` are the command line's own; the rest is resolved."""

    engine: EngineProfile
    model: ModelProfile
    workload: WorkloadProfile
    layer: str
    device: str  # "cpu" or "cuda"
    settings: Settings
    settings_given: dict[str, Any]
    engine_args: dict[str, Any]
    seeds: Seeds
    weights: Path | None
    trust_remote_code: bool
    engine_python: Path | None
    environment: str | None  # the name of a registered one

    @property
    def brings_python(self) -> bool:
        """Whether the user brings the engine's interpreter."""
        return self.engine_python is not None or self.environment is not None

    def describe(self) -> dict[str, Any]:
        """All of it as JSON data, with the profiles by name and in full, so that a result can be repeated."""
        return {
            "engine": self.engine.name,
            "model": self.model.name,
            "workload": self.workload.name,
            "layer": self.layer,
            "device": self.device,
            "settings": self.settings.model_dump(mode="json"),
            "settings_given": self.settings_given,
            "engine_args": self.engine_args,
            "seeds": self.seeds.model_dump(mode="json"),
            "weights": str(self.weights) if self.weights else None,
            "trust_remote_code": self.trust_remote_code,
            "engine_python": str(self.engine_python) if self.engine_python else None,
            "environment": self.environment,
            "model_profile": self.model.model_dump(mode="json"),
            "workload_profile": self.workload.model_dump(mode="json"),
        }


def resolve(asked: Asked, machine: Machine) -> RunSpec:
    """The run that was asked for, with every default filled in.

    Checks names first, then what this machine can do, then numbers.

    Raises:
        Refused: the first kind of check that fails; wrong names are all listed at once.
    """
    named = _names(asked)
    engine, device = _engine_and_device(named.engine, asked, machine)
    layer = checks.layer(engine, asked.layer)
    model = named.model or load_model(_default_model(device, machine), asked.model_arg)
    settings, given = resolve_settings(model, device, asked.set)
    checks.quantization(engine, model, device, settings, machine)
    checks.heads(model, device, settings)
    checks.numbers(model, named.workload, settings)
    if not asked.planning:
        checks.devices(device, settings, machine)
        checks.memory(model, device, settings, machine)
    checks.paths(model, asked.weights)
    return RunSpec(
        engine=engine,
        model=model,
        workload=named.workload,
        layer=layer,
        device=device,
        settings=settings,
        settings_given=given,
        engine_args=named.engine_args,
        seeds=named.seeds,
        weights=asked.weights,
        trust_remote_code=asked.trust_remote_code,
        engine_python=asked.engine_python,
        environment=asked.environment or (None if asked.engine_python else registered.automatic(engine, device)),
    )


@dataclass(frozen=True, slots=True)
class _Named:
    """What the command line names, looked up; None where a default depends on the machine."""

    engine: EngineProfile | None
    model: ModelProfile | None
    workload: WorkloadProfile
    engine_args: dict[str, Any]
    seeds: Seeds


def _names(asked: Asked) -> _Named:
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

    engine = attempt(engines.load_engine, asked.engine) if asked.engine is not None else None
    model = attempt(load_model, asked.model, asked.model_arg) if asked.model is not None else None
    workload = attempt(
        load_workload, DEFAULT_WORKLOAD if asked.workload is None else asked.workload, asked.workload_arg
    )
    attempt(checks.device, asked.device)
    if engine is not None:
        attempt(checks.layer, engine, asked.layer)
    attempt(parse_settings, asked.set)
    engine_args = attempt(parse_assignments, asked.engine_arg, "--engine-arg")
    seeds = attempt(parse_seeds, asked.seed)
    if len(refusals) > 1:
        lines = [line for refusal in refusals for line in (str(refusal), *refusal.details)]
        raise Refused("several things are wrong with what was asked", *lines)
    if refusals:
        raise refusals[0]
    assert workload is not None
    assert engine_args is not None
    assert seeds is not None
    return _Named(engine, model, workload, engine_args, seeds)


def _engine_and_device(named: EngineProfile | None, asked: Asked, machine: Machine) -> tuple[EngineProfile, str]:
    """The engine named, else the first that runs here; on the device asked for, else a GPU if it can.

    Raises:
        Refused: it, or none, runs here; says why.
    """
    device, own = asked.device, asked.engine_python is not None
    if asked.environment is not None:
        return _registered(named, asked, machine)
    kinds = machine.device_kinds() if device == "auto" else (device,)
    candidates = [named] if named else engines.runnable(machine)
    for engine in candidates:
        for kind in kinds:
            brought = own or registered.automatic(engine, kind) is not None
            if engines.why_not(engine, machine, kind, own_python=brought) is None:
                return engine, kind
    if named is not None and asked.planning:
        planned = [kind for kind in (("cuda", "cpu") if device == "auto" else (device,)) if kind in named.environments]
        if planned:
            return named, planned[0]
    if named is None:
        where = "this machine" if device == "auto" else f"device {device} of this machine"
        raise Refused(f"no engine runs on {where}", "python -m harness.doctor says what each one needs")
    if device == "auto":
        raise engines.refuse(named, machine)
    why = engines.why_not(named, machine, device, own_python=own)
    raise Refused(f"{named.name} does not run on device {device} here: {why}")


def _registered(named: EngineProfile | None, asked: Asked, machine: Machine) -> tuple[EngineProfile, str]:
    """The engine and device that the environment asked for is registered for."""
    assert asked.environment is not None
    one = registered.load(asked.environment)
    if asked.engine_python is not None:
        raise Refused("--environment and --engine-python both name an interpreter; give one of them")
    asks = (("engine", named.name if named else None, one.engine), ("device", asked.device, one.device))
    for option, given, its in asks:
        if given not in (None, "auto", its):
            raise Refused(f"--environment: {one.name} is for {one.engine} on {one.device}, and --{option} is {given}")
    engine = named or engines.load_engine(one.engine)
    why = engines.why_not(engine, machine, one.device, own_python=True)
    if why is not None and not asked.planning:
        raise Refused(f"{engine.name} does not run on device {one.device} here: {why}")
    return engine, one.device


def _default_model(device: str, machine: Machine) -> str:
    """The largest shipped model that runs comfortably: it is what a newcomer's first run takes."""
    if device == "cpu":
        return "llama-tiny"
    largest = max((gpu.memory_bytes for gpu in machine.gpus), default=0)
    return "llama3-8b" if largest >= LARGE_GPU_BYTES else "llama-1b"
