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
from innerloop.harness.cli.words import number, size
from innerloop.harness.profiles.engines import why_not
from innerloop.harness.profiling.choice import TOOLS
from innerloop.harness.profiling.tools import FROM
from innerloop.harness.schema.result import Workload
from innerloop.harness.session import passes
from innerloop.harness.session.passes import PlannedPass
from innerloop.harness.spec import preconditions as checks
from innerloop.harness.spec.adapter_settings import native_settings, preparation_steps
from innerloop.harness.store.versions import Document
from innerloop.harness.workloads import build, warmup

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiling.choice import Profile
    from innerloop.harness.spec.model import RunSpec


class PlannedEnvironment(TypedDict):
    """The engine's interpreter: its path, whether it is there and of which lock; `name` and `sites` of your own."""

    path: str
    exists: bool
    lock: str | None
    lock_hash: str | None
    name: NotRequired[str | None]
    sites: NotRequired[list[str]]


class CheckpointOfRun(PlannedCheckpoint):
    """The folder of weights, made or your own."""

    synthetic: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would be made of. why_not_here: why it cannot run on this machine, None if it can. spec: as
    `RunSpec.describe` gives it. checkpoint: None where a server has its own. warnings: of what
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
    profile: PlannedPass | None
    warnings: Sequence[str] = ()


def plan(spec: RunSpec, machine: Machine, profile: Profile | None = None, out: Path | None = None) -> Plan:
    """The resolved run: its environment, checkpoint, requests and settings. Nothing is written.

    `profile` is the pass after the measured run, `out` the run's folder where one is named.

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
        profile=None if profile is None else passes.describe(profile, spec, out or Path("runs") / "RUN"),
    )


def why_not_here(spec: RunSpec, machine: Machine) -> str | None:
    """What this machine lacks for the run, None if nothing."""
    reason = why_not(spec.engine, machine, spec.device, own_python=spec.brings_python)
    if reason is not None:
        return reason
    if spec.engine.attached:
        return None
    try:
        checks.devices(spec.device, spec.settings, machine)
        checks.memory(spec.model, spec.device, spec.settings, machine)
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


def planned_environment(spec: RunSpec) -> PlannedEnvironment:
    recipe = spec.engine.environments[spec.device]
    own = environments.yours(spec.engine, spec.device, spec.engine_python, spec.environment)
    if own is not None:
        return {
            "path": str(own.python),
            "exists": True,
            "lock": None,
            "lock_hash": None,
            "name": own.name,
            "sites": [str(site) for site in own.sites],
        }
    if recipe.lock is None:
        return {
            "path": "your own; give --engine-python or --environment",
            "exists": False,
            "lock": None,
            "lock_hash": None,
        }
    planned = environments.plan(spec.engine, spec.device)
    exists = environments.existing(planned) is not None
    return {"path": str(planned.folder), "exists": exists, "lock": planned.lock.name, "lock_hash": planned.lock_hash}


def print_plan(resolved: Plan, console: Console) -> None:
    """The plan for people: one line a fact."""
    from rich.text import Text

    from innerloop.harness.report.load import load_words
    from innerloop.harness.report.tables import table

    spec, environment, checkpoint = resolved.spec, resolved.environment, resolved.checkpoint
    rows = table(header=False)
    rows.add_column(no_wrap=True, style="dim")
    rows.add_column(overflow="fold")  # paths and commands are whole
    rows.add_row("engine", f"{spec['engine']}, {spec['layer']} layer, on {spec['device']}")
    if resolved.why_not_here:
        rows.add_row("cannot run here", resolved.why_not_here)
    missing = " (to be created)" if environment["lock"] else ""
    state = " (exists)" if environment["exists"] else missing
    rows.add_row("environment", environment["path"] + state)
    if environment.get("name"):
        path = ":".join(environment["sites"]) or "empty"
        rows.add_row("", f"registered as {environment['name']}, PYTHONPATH {path}")
    if environment.get("lock"):
        rows.add_row("", f"lock {environment['lock']}, sha256 {(environment['lock_hash'] or '')[:12]}")
    if checkpoint is None:
        rows.add_row("model", f"{spec['model']}, whose token ids are sent; the server has its own weights")
    else:
        made = "exists" if checkpoint["exists"] else "to be created"
        kind = "synthetic" if checkpoint["synthetic"] else "your own"
        rows.add_row("model", f"{spec['model']}, {kind} weights, {checkpoint['bytes'] / 2**30:,.2f} GiB ({made})")
        rows.add_row("", checkpoint["path"])
    rows.add_row("workload", f"{spec['workload']}, hash {resolved.workload_hash[:12]}, {words(resolved.workload)}")
    for line in load_words(resolved.workload):
        rows.add_row("", line)
    for line in resolved.warnings:
        rows.add_row("", Text(f"! {line}", style="yellow"))
    if checkpoint is not None:
        rows.add_row("memory", memory_words(resolved, checkpoint["bytes"]))
    rows.add_row("warm-up", f"rounds of {words(resolved.warmup)}")
    rows.add_row("", f"at most {resolved.warmup_max_rounds} rounds; none starts after {resolved.warmup_max_s:g} s")
    rows.add_row("seeds", ", ".join(f"{name} {seed}" for name, seed in spec["seeds"].items()))
    for index, (name, value) in enumerate(spec["settings"].items()):
        given = "  (given)" if name in spec["settings_given"] else ""
        rows.add_row("settings" if index == 0 else "", f"{name} = {shown(name, value)}{given}")
    for index, (name, value) in enumerate(resolved.native_settings.items()):
        rows.add_row("engine args" if index == 0 else "", f"{name} = {shown(name, value)}")
    for index, step in enumerate(resolved.preparation):
        rows.add_row("preparation" if index == 0 else "", step)
    if resolved.profile:
        of = resolved.profile
        rows.add_row("profiling pass", f"{of['kind']}, steps: {of['steps']}, in a separate process after the run")
        if of["kind"] in TOOLS and of["tool"] is None:
            rows.add_row("", f"{of['kind']} is not installed here: {FROM[of['kind']]}")
        rows.add_row("", of["command"])
    if resolved.cannot_report:
        rows.add_row("not reported", ", ".join(resolved.cannot_report))
    console.print(rows)


def memory_words(resolved: Plan, weights: int) -> str:
    """What the weights (bytes) and the KV cache take; of GPUs how much each needs at least."""
    settings, a_token = resolved.spec["settings"], resolved.kv_bytes_per_token
    tokens = settings["kv_cache_tokens"]
    text = f"{size(weights)} of weights"
    if a_token is not None:
        held = f" ({size(a_token * tokens)} for kv_cache_tokens)" if tokens else ""
        text += f", {size(a_token)} of KV cache per token{held}"
    if resolved.spec["device"] == "cuda":
        least = (weights + (a_token or 0) * (tokens or 0)) / settings["tensor_parallel"]
        many = settings["tensor_parallel"]
        text += f"; needs more than {size(least)} on {'the GPU' if many == 1 else f'each of {many} GPUs'}"
    return text


def shown(name: str, value: Any) -> str:
    if value is None:
        return "none" if name == "quantization" else "chosen by the engine"
    return str(value).lower() if isinstance(value, bool) else str(value)


def words(described: Workload) -> str:
    prompt, output = described.prompt_tokens, described.output_tokens
    users = f", {described.users} users" if described.users else ""
    lasts = f", {described.duration_s:g} s" if described.duration_s else ""
    prompts, outputs = (f"{one.min}" if one.min == one.max else f"{one.min} to {one.max}" for one in (prompt, output))
    return f"{number(described.requests)} requests{users}{lasts}, prompts of {prompts} tokens, outputs of {outputs}"
