"""The plan of a run for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from innerloop.harness.cli.words import counted, number, size
from innerloop.harness.profiling.choice import TOOLS
from innerloop.harness.profiling.tools import FROM
from innerloop.harness.report.load import load_words
from innerloop.harness.report.tables import table
from innerloop.harness.schema.result import Workload

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.session.plan import Plan, PlannedMemory


def print_plan(resolved: Plan, console: Console) -> None:
    """The plan for people: one line a fact."""
    spec, environment, checkpoint = resolved.spec, resolved.environment, resolved.checkpoint
    rows = table(header=False)
    rows.add_column(no_wrap=True, style="dim")
    rows.add_column()
    rows.add_row("engine", f"{spec['engine']}, {spec['layer']} layer, on {spec['device']}")
    if resolved.why_not_here:
        rows.add_row("cannot run here", resolved.why_not_here)
    missing = "" if not environment["lock"] else " (not here)" if resolved.why_not_here else " (to be created)"
    state = " (exists)" if environment["exists"] else missing
    rows.add_row("environment", environment["path"] + state)
    if environment.get("name"):
        path = ":".join(environment["sites"]) or "empty"
        rows.add_row("", f"registered as {environment['name']}, PYTHONPATH {path}")
    if environment.get("lock"):
        rows.add_row("", f"lock {environment['lock']}, sha256 {(environment['lock_hash'] or '')[:12]}")
        if not environment["exists"]:
            many = environment["packages"]
            packages = "" if many is None else f"up to {number(many)} packages, "
            rows.add_row("download", f"{packages}size unknown: it is not in the lock")
    if checkpoint is None:
        rows.add_row("model", f"{spec['model']}, whose token ids are sent; the server has its own weights")
    else:
        made = "exists" if checkpoint["exists"] else "to be created"
        kind = "synthetic" if checkpoint["synthetic"] else "your own"
        rows.add_row("model", f"{spec['model']}, {kind} weights, {size(checkpoint['bytes'])} ({made})")
        rows.add_row("", checkpoint["path"])
    rows.add_row("workload", f"{spec['workload']}, hash {resolved.workload_hash[:12]}, {words(resolved.workload)}")
    for line in load_words(resolved.workload):
        rows.add_row("", line)
    for line in resolved.warnings:
        rows.add_row("", Text(f"! {line}", style="yellow"))
    if resolved.memory is not None:
        rows.add_row("memory", memory_words(resolved.memory))
        if resolved.memory.room is not None:
            rows.add_row("", room_words(resolved.memory))
    rows.add_row("warm-up", f"rounds of {words(resolved.warmup)}")
    rows.add_row(
        "", f"at most {counted(resolved.warmup_max_rounds, 'round')}; none starts after {resolved.warmup_max_s:g} s"
    )
    rows.add_row("time", resolved.time.words())
    for line in resolved.time.basis:
        rows.add_row("", line)
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


def memory_words(memory: PlannedMemory) -> str:
    """What the weights and the KV cache take; of GPUs that are not here what each needs."""
    text = f"{size(memory.weights)} of weights"
    if memory.kv_per_token is not None:
        held = f" ({size(memory.kv_cache)} for kv_cache_tokens)" if memory.kv_cache else ""
        text += f", {size(memory.kv_per_token)} of KV cache per token{held}"
    if memory.room is None:
        many = memory.devices
        least = (memory.weights + (memory.kv_cache or 0)) / many
        return f"{text}; needs more than {size(least)} on {'the GPU' if many == 1 else f'each of {many} GPUs'}"
    return text


def room_words(memory: PlannedMemory) -> str:
    """Whether that fits here, and into what."""
    text = f"{'fits' if memory.fits else 'does not fit'}: {size(memory.room)} {memory.place}"
    if memory.fits and memory.kv_tokens is not None:
        text += f", room for {number(memory.kv_tokens)} tokens of KV cache"
    return text


def shown(name: str, value: Any) -> str:
    if value is None:
        return "none" if name == "quantization" else "chosen by the engine"
    return str(value).lower() if isinstance(value, bool) else str(value)


def words(described: Workload) -> str:
    prompt, output = described.prompt_tokens, described.output_tokens
    users = f", {counted(described.users, 'user')}" if described.users else ""
    lasts = f", {described.duration_s:g} s" if described.duration_s else ""
    prompts, outputs = (f"{one.min}" if one.min == one.max else f"{one.min} to {one.max}" for one in (prompt, output))
    return f"{counted(described.requests, 'request')}{users}{lasts}, prompts of {prompts} tokens, outputs of {outputs}"
