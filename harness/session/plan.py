"""What a run would do, without doing it: `--dry-run`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from typing_extensions import NotRequired

from innerloop.harness import environments
from innerloop.harness.checkpoints import planned_checkpoint
from innerloop.harness.checkpoints.cache import PlannedCheckpoint
from innerloop.harness.checkpoints.weights import use_weights
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import size
from innerloop.harness.environments.lock import entries
from innerloop.harness.profiles.engines import why_not
from innerloop.harness.schema.result import Workload
from innerloop.harness.session import passes
from innerloop.harness.session.expected import Expected, Took, earlier_runs, expected
from innerloop.harness.session.passes import PlannedPass
from innerloop.harness.spec import preconditions as checks
from innerloop.harness.spec.adapter_settings import devices_needed, native_settings, preparation_steps
from innerloop.harness.store.versions import Document
from innerloop.harness.workloads import build, warmup

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.profiling.choice import Profile
    from innerloop.harness.spec.model import RunSpec


class PlannedEnvironment(TypedDict):
    """The engine's interpreter: its path, whether it is there and of which lock; `name` and `sites` of your own.
    packages: how many its lock has, on all machines; download_bytes: what making it downloads, None: unknown."""

    path: str
    exists: bool
    lock: str | None
    lock_hash: str | None
    packages: int | None
    download_bytes: int | None
    name: NotRequired[str | None]
    sites: NotRequired[list[str]]


class CheckpointOfRun(PlannedCheckpoint):
    """The folder of weights, made or your own."""

    synthetic: bool


@dataclass(frozen=True, slots=True)
class PlannedMemory:
    """Bytes, of all devices together; None: not known. weights: of the checkpoint. kv_cache: of kv_cache_tokens, where
    they are set. devices: how many the engine uses. room: what those here have for both, None where there are fewer;
    place: where that is. fits: whether both do. kv_tokens: how many tokens of KV cache there is room for beside the
    weights; None also where engine arguments add devices, since the engine may copy the weights.
    """

    weights: int
    kv_per_token: int | None
    kv_cache: int | None
    devices: int
    room: int | None
    place: str | None
    fits: bool | None
    kv_tokens: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would be made of. why_not_here: why it cannot run on this machine, None if it can. spec: as
    `RunSpec.describe` gives it. checkpoint, memory: None where a server has its own. warnings: of what
    the run will say little."""

    spec: Document
    why_not_here: str | None
    native_settings: Mapping[str, Any]
    preparation: Sequence[str]
    cannot_report: Sequence[str]
    environment: PlannedEnvironment
    checkpoint: CheckpointOfRun | None
    workload_hash: str
    workload: Workload
    warmup: Workload
    warmup_max_rounds: int
    warmup_max_s: float
    kv_bytes_per_token: int | None
    memory: PlannedMemory | None
    time: Expected
    profile: PlannedPass | None
    warnings: Sequence[str] = ()


def plan(
    spec: RunSpec,
    machine: Machine,
    profile: Profile | None = None,
    out: Path | None = None,
    earlier: Sequence[Took] | None = None,
) -> Plan:
    """The resolved run: its environment, checkpoint, requests and settings. Nothing is written.

    `profile` is the pass after the measured run, `out` the run's folder where one is named, `earlier` the runs by
    which its time is told: those in runs/ and experiments/ where None.

    Raises:
        Refused: something that the run itself would be refused for.
    """
    work = build(spec.workload, spec.model, spec.seeds, spec.settings.context_length)
    warm = warmup(spec.workload, spec.model, spec.seeds, spec.settings.max_batch_size, window=work)
    checkpoint: CheckpointOfRun | None = None
    if spec.weights is not None:
        own = use_weights(spec.weights, spec.model)
        checkpoint = {"path": str(own.path), "bytes": own.bytes, "synthetic": False, "exists": True}
    elif not spec.engine.attached:
        checkpoint = {**planned_checkpoint(spec.model, spec.settings.dtype), "synthetic": True}
    native, cannot_report = native_settings(spec)
    return Plan(
        spec=spec.describe(),
        why_not_here=why_not_here(spec, machine) or no_room(checkpoint),
        native_settings=native,
        preparation=preparation_steps(spec),
        cannot_report=cannot_report,
        environment=planned_environment(spec),
        checkpoint=checkpoint,
        workload_hash=work.hash,
        workload=work.describe(),
        warmup=warm.describe(),
        warmup_max_rounds=spec.workload.warmup.max_rounds,
        warmup_max_s=spec.workload.warmup.max_s,
        kv_bytes_per_token=spec.model.kv_bytes_per_token(spec.settings.dtype),
        warnings=spec.workload.warnings(),
        memory=None if checkpoint is None else planned_memory(spec, machine, checkpoint["bytes"]),
        time=expected(spec, earlier_runs() if earlier is None else earlier),
        profile=None if profile is None else passes.describe(profile, spec, out or Path("runs") / "RUN"),
    )


def why_not_here(spec: RunSpec, machine: Machine) -> str | None:
    """What this machine lacks for the run, None if nothing."""
    reason = why_not(spec.engine, machine, spec.device, own_python=spec.brings_python)
    if reason is not None:
        return reason
    if spec.engine.attached:
        return None
    if not spec.brings_python and (reason := environments.why_not_made(spec.engine, spec.device)) is not None:
        return reason
    try:
        checks.devices(spec, machine)
        checks.memory(spec, machine)
    except Refused as refusal:
        return str(refusal)
    return None


def no_room(checkpoint: CheckpointOfRun | None) -> str | None:
    """Why the checkpoint cannot be made for want of disk; None if it can, or is there."""
    if checkpoint is None or checkpoint["exists"]:
        return None
    folder = next(folder for folder in Path(checkpoint["path"]).parents if folder.is_dir())
    disk = shutil.disk_usage(folder)
    if disk.total == 0 or checkpoint["bytes"] <= disk.free:  # a total of 0: this is no disk
        return None
    return f"the checkpoint needs {size(checkpoint['bytes'])} of disk space, and {folder} has {size(disk.free)} left"


def planned_memory(spec: RunSpec, machine: Machine, weights: int) -> PlannedMemory:
    """What the weights (bytes) and the KV cache take, and whether they fit where they are to be."""
    settings, a_token = spec.settings, spec.model.kv_bytes_per_token(spec.settings.dtype)
    kv = None if a_token is None or settings.kv_cache_tokens is None else a_token * settings.kv_cache_tokens
    needed = devices_needed(spec)
    if spec.device == "cuda" and len(machine.gpus) < needed:
        return PlannedMemory(weights, a_token, kv, needed, None, None, None, None)
    room, place = checks.room_for(spec, machine)
    left = max(room - weights, 0)
    return PlannedMemory(weights, a_token, kv, needed, room, place, weights + (kv or 0) <= room,
                         left // a_token if a_token and needed == settings.tensor_parallel else None)  # fmt: skip


def planned_environment(spec: RunSpec) -> PlannedEnvironment:
    recipe = spec.engine.environments[spec.device]
    own = environments.yours(spec.engine, spec.device, spec.engine_python, spec.environment)
    if own is not None:
        return {
            "path": str(own.python),
            "exists": True,
            "lock": None,
            "lock_hash": None,
            "packages": None,
            "download_bytes": 0,
            "name": own.name,
            "sites": [str(site) for site in own.sites],
        }
    if recipe.lock is None:
        return {
            "path": "your own; give --engine-python or --environment",
            "exists": False,
            "lock": None,
            "lock_hash": None,
            "packages": None,
            "download_bytes": 0,
        }
    planned = environments.plan(spec.engine, spec.device)
    exists = environments.existing(planned) is not None
    return {
        "path": str(planned.folder),
        "exists": exists,
        "lock": planned.lock.name,
        "lock_hash": planned.lock_hash,
        "packages": packages_of(planned.lock),
        "download_bytes": 0 if exists else None,
    }


def packages_of(lock: Path) -> int | None:
    """How many packages a lock has; None where it cannot be read."""
    try:
        return len(entries(lock.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
