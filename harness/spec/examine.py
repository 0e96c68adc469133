"""What this machine is, which engines run on it, and what is there for them: the document of `harness.doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from innerloop import harness
from innerloop.harness.environments import registered
from innerloop.harness.environments.listing import listed
from innerloop.harness.machine import Machine, cache_folder
from innerloop.harness.machine.commit import own_commit
from innerloop.harness.machine.uv import find_uv
from innerloop.harness.profiles import engines
from innerloop.harness.profiles.engines import EngineProfile
from innerloop.harness.telemetry.watched import inventory


def examine(machine: Machine, named: Sequence[EngineProfile] = ()) -> dict[str, Any]:
    """As JSON data. `devices` of an engine: where it runs here, the default first. `named`: plug-ins to list too."""
    known: list[dict[str, Any]] = []
    for engine in (*engines.all_engines(), *named):
        able = runs_on(engine, machine)
        known.append(
            {
                "name": engine.name,
                "title": engine.title,
                "adapter": engine.adapter,
                "layers": engine.layers,
                "devices": able,
                "why_not": None if able else engines.why_not(engine, machine),
                "substituted": {kind: what for kind in able if (what := engines.substituted(engine, kind))},
                "needs": engine.needs,
            }
        )
    broken = engines.broken_plugins()
    as_itself = [engine["name"] for engine in known if set(engine["devices"]) - engine["substituted"].keys()]
    return {
        "innerloop": {"version": harness.__version__, "commit": own_commit(), "cache": str(cache_folder())},
        "machine": machine.describe(),
        "default_engine": as_itself[0] if as_itself else None,
        "engines": known,
        **({"broken_plugins": broken} if broken else {}),
        "environments": [
            {key: getattr(one, key) for key in ("name", "engine", "device", "state", "version", "bytes", "last_used")}
            for one in listed()
        ],
        "uv": find_uv(),
        "telemetry": inventory(),
    }


def runs_on(engine: EngineProfile, machine: Machine) -> list[str]:
    """The kinds of device that the engine runs on here, in its own environment or in one that is registered for it."""
    return [
        kind
        for kind in machine.device_kinds()
        if engines.why_not(engine, machine, kind, own_python=registered.automatic(engine, kind) is not None) is None
    ]
