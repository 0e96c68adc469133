"""Content-addressed cells: a key of all that decides a cell's figures on this machine, and the runs that have it.

What is done with the same address is not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from typing_extensions import NotRequired

from innerloop.harness import __version__, environments
from innerloop.harness.ceilings.obtain import told_by
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import read_kept
from innerloop.harness.environments import registered
from innerloop.harness.experiments.sides import described
from innerloop.harness.machine import cache_folder, cgroups
from innerloop.harness.machine.commit import own_commit
from innerloop.harness.machine.state import host_state
from innerloop.harness.process.launcher import RECORDED_PREFIXES
from innerloop.harness.result.identity import key_of
from innerloop.harness.session.arguments import parser
from innerloop.harness.spec.adapter_settings import adapter_of
from innerloop.harness.store import result_file
from innerloop.harness.store.documents import write_document

if TYPE_CHECKING:
    from innerloop.harness.experiments.blocks import Job
    from innerloop.harness.machine import Machine
    from innerloop.harness.schema.experiment import Event
    from innerloop.harness.spec.model import RunSpec

MOST_RUNS = 100  # that are known of one address: the newest
OF_A_DEVICE = ("driver", "memory_total_bytes", "power_limit_w", "max_sm_clock_mhz", "max_memory_clock_mhz")
HOW = ("cpus", "harness_cpus", "device_telemetry", "device_hz", "ceilings")  # options that a figure may depend on


class Known(TypedDict):
    """A run that has an address, and what its journal said of it."""

    run: str
    status: str
    figures: dict[str, float | None]
    boot: str
    time: str
    values: NotRequired[dict[str, int]]
    doubts: NotRequired[list[str]]


def address_of(spec: RunSpec, machine: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """sha256 of the resolved run, the packages of its environment, the variables that can change what is measured, its
    files, this machine as this process may use it, and innerloop itself.

    `machine` as `sides.described` gives it; `options`: how runs are made, by the names of `HOW`.

    Raises:
        Refused: the engine's environment is not known.
    """
    described = spec.describe()
    asked = {
        "run": key_of(described),
        "limits": described.get("slo"),  # of goodput, which is kept among the figures
        "packages": packages(spec),
        "files": [state_of(Path(path)) for path in files_of(spec, described)],
        "machine": {**machine, **use_of_machine()},
        "devices": devices(tuple(machine.get("gpus") or ())) if spec.device == "cuda" else None,
        "variables": variables_of(spec),
        "options": {name: options.get(name) for name in HOW},
        "innerloop": [__version__, _commit()],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def addresses_now(asked: Mapping[Job, tuple[RunSpec, Sequence[str]]], machine: Machine) -> dict[Job, str]:
    """The addresses of runs that are about to begin, each a spec and its command line; of those whose environment is
    not known there is none. What a sweep has had since its beginning is of the machine, the variables, the profiles
    and the packages as they were then.
    """
    for kept in (use_of_machine, devices):
        kept.cache_clear()
    _known.clear()
    place = described(machine)
    found: dict[Job, str] = {}
    for job, (spec, words) in asked.items():
        with suppress(Refused):
            found[job] = address_of(spec, place, vars(parser().parse_args(list(words))))
    return found


@lru_cache(maxsize=1)
def _commit() -> str | None:
    return own_commit()


def packages(spec: RunSpec) -> str:
    """What is installed in the engine's environment: its lock's hash, or the interpreter and version where it is the
    user's own."""
    asked = (spec.engine.name, spec.engine.pinned, spec.engine.plugin, spec.device)
    return _packages(spec.engine, spec.device, spec.engine_python, spec.environment, asked)


_known: dict[Any, str] = {}


def _packages(engine: Any, device: str, python: Path | None, name: str | None, asked: Any) -> str:
    key = (asked, python, name)
    if key not in _known:
        own = environments.yours(engine, device, python, name)
        if own is not None:
            found = environments.content(own.python, own.variables)
            _known[key] = f"{own.python} {own.python_version} {own.version} {','.join(map(str, own.sites))} {found}"
        else:
            _known[key] = environments.plan(engine, device).lock_hash
    return _known[key]


def variables_of(spec: RunSpec) -> Mapping[str, str]:
    """A hash of each variable that can change what is measured: the user's, and those of a registered environment.
    Where temporary files lie changes nothing."""
    own = registered.load(spec.environment).env if spec.environment is not None else {}
    prefixes = (*RECORDED_PREFIXES, *adapter_of(spec.engine).variables)
    return {
        name: hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
        for name, value in {**os.environ, **own}.items()
        if name.startswith(prefixes) and name != "TMPDIR"
    }


@lru_cache(maxsize=1)
def use_of_machine() -> Mapping[str, Any]:
    """How much of the machine this process may use, and how fast that is let be."""
    state = host_state()
    return {
        "cpus": len(state.affinity or ()),
        "cpu_quota": cgroups.cpu_quota(),
        "governor": state.governor,
        "turbo": state.turbo,
        "smt": state.smt,
        "clock_limits": state.clock_limits,
        "niceness": state.niceness,
        "kernel": os.uname().release,
        "huge_pages": state.huge_pages,
    }


@lru_cache(maxsize=1)
def devices(uuids: tuple[str, ...]) -> list[Any]:
    """What decides the speed of GPUs that are the same ones as before: driver, memory, the power and clocks that they
    may have now; None of one that does not say."""
    told: list[Mapping[str, Any] | None] = [told_by(uuid) for uuid in uuids]
    return [None if one is None else [one[name] for name in OF_A_DEVICE] for one in told]


def files_of(spec: RunSpec, described: Mapping[str, Any]) -> list[str]:
    """The user's own files on which a run depends: weights, a plug-in, lengths, what engine arguments name."""
    found = [str(spec.weights)] if spec.weights else []
    found += paths_of_arguments(spec.engine_args)
    if spec.engine.plugin:
        found.append(spec.engine.plugin)
    return [*found, *paths_in(described["workload_profile"])]


def paths_of_arguments(value: Any) -> list[str]:
    """The files that engine arguments name, and the folders of models: a draft model, a table of scales."""
    if isinstance(value, Mapping):
        return [path for one in value.values() for path in paths_of_arguments(one)]
    if isinstance(value, (list, tuple)):
        return [path for one in value for path in paths_of_arguments(one)]
    if not isinstance(value, str) or not value.startswith("/"):
        return []
    return [value] if os.path.isfile(value) or os.path.isfile(os.path.join(value, "config.json")) else []


def paths_in(value: Any) -> list[str]:
    """The files that a profile names, of lengths or of requests."""
    if isinstance(value, Mapping):
        own = value.get("path")
        named = [own] if isinstance(own, str) else []
        return [*named, *(path for one in value.values() for path in paths_in(one))]
    if isinstance(value, (list, tuple)):
        return [path for one in value for path in paths_in(one)]
    return []


def state_of(path: Path) -> list[Any]:
    """A file, or the files of a folder, as they are now: names, sizes, times of change."""
    if path.name == "__init__.py":
        path = path.parent
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    kept = [one for one in files if "__pycache__" not in one.parts]
    return [(str(one), one.stat().st_size, one.stat().st_mtime_ns) for one in kept if one.exists()]


def known(address: str) -> list[Known]:
    """The runs that have an address and are still there, the oldest first."""
    try:
        found = read_kept(_file(address))
        return [one for one in found["runs"] if _is_whole(one) and (Path(one["run"]) / result_file.FILE).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _is_whole(one: Mapping[str, Any]) -> bool:
    doubts = one.get("doubts", [])
    return (
        all(isinstance(one[name], str) for name in ("run", "status", "boot", "time"))
        and all(value is None or isinstance(value, (int, float)) for value in one["figures"].values())
        and all(isinstance(value, int) for value in one.get("values", {}).values())
        and isinstance(doubts, list)
        and all(isinstance(code, str) for code in doubts)
    )


def remember(address: str, event: Event, run: Path) -> None:
    """Adds a run that is done; nothing is lost where that cannot be written, but time."""
    new: Known = {
        "run": str(run.absolute()),
        "status": event.status or "ok",
        "figures": dict(event.figures),
        "boot": event.boot,
        "time": event.time,
        "values": dict(event.values),
        "doubts": list(event.doubts),
    }
    path = _file(address)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_document(path, {"runs": [*known(address)[1 - MOST_RUNS :], new]}, contended=True)
    except (OSError, Refused):
        pass


def _file(address: str) -> Path:
    return cache_folder() / "cells" / f"{address}.json"
