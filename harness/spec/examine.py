"""What this machine is, which engines run on it, and what is there for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from innerloop import harness
from innerloop.harness import environments
from innerloop.harness.environments import registered
from innerloop.harness.environments.listing import listed
from innerloop.harness.environments.pip_settings import nowhere
from innerloop.harness.machine import Machine, cache_folder
from innerloop.harness.machine.commit import own_commit
from innerloop.harness.machine.uv import find_uv
from innerloop.harness.profiles import engines
from innerloop.harness.profiles.engines import EngineProfile
from innerloop.harness.store.typed import document
from innerloop.harness.store.versions import Document
from innerloop.harness.telemetry.watched import Inventory, inventory


@dataclass(frozen=True, slots=True)
class Innerloop:
    """This innerloop. commit: None where it is no checkout."""

    version: str
    commit: str | None
    cache: str


@dataclass(frozen=True, slots=True)
class EngineHere:
    """An engine on this machine. devices: where it runs here, the default first; why_not: None where it runs."""

    name: str
    title: str
    adapter: bool
    layers: Sequence[str]
    devices: Sequence[str]
    why_not: str | None
    substituted: Mapping[str, str]  # by kind of device what makes the speed not the engine's own
    needs: str


@dataclass(frozen=True, slots=True)
class EnvironmentHere:
    """An environment, as `environments list` has it."""

    name: str
    engine: str
    device: str
    state: str
    version: str | None
    bytes: int | None
    last_used: str | None


@dataclass(frozen=True, slots=True)
class Examination:
    """All of it. uv: its path, None where it is not there. no_index: pip is told to look for packages nowhere, so that
    no environment can be created. broken_plugins: why each is left out."""

    innerloop: Innerloop
    machine: Machine
    default_engine: str | None
    engines: Sequence[EngineHere]
    broken_plugins: Mapping[str, str]
    environments: Sequence[EnvironmentHere]
    uv: str | None
    no_index: bool
    telemetry: Inventory

    def describe(self) -> Document:
        """As JSON data; broken plug-ins only where there are some."""
        described = document(self)
        if not self.broken_plugins:
            del described["broken_plugins"]
        return described


def examine(machine: Machine, named: Sequence[EngineProfile] = ()) -> Examination:
    """`named`: plug-ins to list too; an engine that is listed anyway is listed once."""
    own = engines.all_engines()
    shown = (*own, *(one for one in named if one not in own))
    known = [engine_here(engine, machine) for engine in shown]
    attached = {engine.name for engine in shown if engine.attached}
    as_itself = [one.name for one in known if one.name not in attached and set(one.devices) - one.substituted.keys()]
    return Examination(
        innerloop=Innerloop(harness.__version__, own_commit(), str(cache_folder())),
        machine=machine,
        default_engine=as_itself[0] if as_itself else None,
        engines=known,
        broken_plugins=engines.broken_plugins(),
        environments=[
            EnvironmentHere(one.name, one.engine, one.device, one.state, one.version, one.bytes, one.last_used)
            for one in listed()
        ],
        uv=find_uv(),
        no_index=nowhere() is True,
        telemetry=inventory(),
    )


def engine_here(engine: EngineProfile, machine: Machine) -> EngineHere:
    able = runs_on(engine, machine)
    return EngineHere(
        name=engine.name,
        title=engine.title,
        adapter=engine.adapter,
        layers=engine.layers,
        devices=able,
        why_not=None if able else engines.why_not(engine, machine) or _not_made(engine, machine),
        substituted={kind: what for kind in able if (what := engines.substituted(engine, kind))},
        needs=engine.needs,
    )


def runs_on(engine: EngineProfile, machine: Machine) -> list[str]:
    """The kinds of device that the engine runs on here, in its own environment or in one that is registered for it."""
    found = []
    for kind in machine.device_kinds():
        brought = registered.automatic(engine, kind) is not None
        able = engines.why_not(engine, machine, kind, own_python=brought) is None
        if able and (brought or environments.why_not_made(engine, kind) is None):
            found.append(kind)
    return found


def _not_made(engine: EngineProfile, machine: Machine) -> str | None:
    reasons = (environments.why_not_made(engine, kind) for kind in machine.device_kinds())
    return next((reason for reason in reasons if reason is not None), None)
