"""What this machine is and what runs on it, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from innerloop.harness.cli.lists import print_list
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import NONE, size
from innerloop.harness.machine import Machine
from innerloop.harness.spec.examine import EngineHere, Examination
from innerloop.harness.telemetry.device import DeviceTold


def print_examination(found: Examination, console: Console) -> None:
    """Prints what `spec.examine` found."""

    def say(text: str = "") -> None:
        console.out(text)

    innerloop = found.innerloop
    commit = f", commit {innerloop.commit[:12]}" if innerloop.commit else ""
    dirty = ", with local changes" if (innerloop.commit or "").endswith("-dirty") else ""
    say(f"innerloop {innerloop.version}{commit}{dirty}, cache in {innerloop.cache}")
    say()
    print_list(console, ("machine", ""), machine_rows(found.machine))
    say()
    telemetry = found.telemetry
    if telemetry.devices:
        columns = ("device", "driver", "memory", "power limit", "MIG", "missing readings")
        print_list(console, columns, device_rows(telemetry.devices))
    if telemetry.note:
        say(f"no device telemetry: {telemetry.note}" if not telemetry.devices else telemetry.note)
    say("CPU energy " + ("can be read" if telemetry.cpu_energy else "cannot be read (powercap, RAPL)"))
    say()
    rows = [
        (
            engine.name + (" *" if engine.name == found.default_engine else ""),
            "yes" if engine.why_not is None else "no",
            ", ".join(engine.devices) or "-",
            described(engine),
        )
        for engine in found.engines
    ]
    print_list(console, ("engine", "runs here", "device", "layers, or why it cannot run"), rows)
    for name, why in found.broken_plugins.items():
        say(f"the plug-in {name} was skipped: {why}")
    if found.default_engine:
        say("* the default engine")
    else:
        say("There is no default engine here. What each engine needs:")
        for engine in found.engines:
            say(as_called(f"  {engine.name}: {engine.needs}"))
    say()
    if found.environments:
        made = [(one.name, one.state, one.version or "-", size(one.bytes)) for one in found.environments]
        print_list(console, ("environment", "state", "engine version", "size"), made, right=("size",))
    elif found.uv is not None and not found.no_index:
        hint = as_called("innerloop environments create ENGINE")
        say(f"no environments yet; a run creates the one it needs from a package index, or create one with {hint}")
    else:
        say("no environments yet")
    instead = as_called("innerloop environments register NAME --engine ENGINE --python PATH")
    if found.no_index:
        say(f"pip is told to use no index, so environments cannot be created; register one that is here: {instead}")
    elif found.uv is None:
        say(f"uv is missing, so environments cannot be created; pip install uv, or register one: {instead}")


def described(engine: EngineHere) -> str:
    """An engine's layers and where its speed is not its own, or why it does not run here."""
    if engine.why_not is not None:
        return engine.why_not
    notes = [f"on {kind} {what}, so its speed is not representative" for kind, what in engine.substituted.items()]
    return "; ".join([", ".join(engine.layers), *notes])


def device_rows(devices: Sequence[DeviceTold]) -> list[tuple[str, ...]]:
    """The devices as telemetry sees them, one a row."""
    rows: list[tuple[str, ...]] = []
    for one in devices:
        limit, mig = one["power_limit_w"], one["mig"]
        lacking = [name.replace("_", " ") for name, there in one["supported"].items() if not there]
        rows.append(
            (
                f"GPU {one['index']} {one['name']}",
                one["driver"] or NONE,
                size(one["memory_total_bytes"]),
                NONE if limit is None else f"{limit:.0f} W",
                f"slice {mig['gpu_instance']}.{mig['compute_instance']}" if mig else "off",
                ", ".join(lacking) or "none",
            )
        )
    return rows


def machine_rows(machine: Machine) -> list[tuple[str, str]]:
    """The machine's facts, one a row."""
    cores = f"{machine.physical_cores} cores, {machine.logical_cores} threads usable"
    if machine.machine_logical_cores != machine.logical_cores:
        cores += f" of {machine.machine_logical_cores} threads"
    if machine.cpu_quota is not None:
        cores += f", CPU time limited to {machine.cpu_quota:g} cores"
    rows = [
        ("system", f"{machine.os_name}, {machine.os} {machine.kernel}, {machine.libc or 'no glibc'}"),
        ("CPU", f"{machine.cpu} ({machine.arch}), {cores}"),
        ("instructions", " ".join(machine.cpu_flags) or "-"),
        ("memory", f"{size(machine.memory_bytes)}, {size(machine.memory_available_bytes)} available"),
        ("Python", machine.python),
    ]
    for gpu in machine.gpus:
        memory = size(gpu.memory_bytes) if gpu.memory_bytes else "memory unknown (shared with the host?)"
        facts = {"compute capability": gpu.compute_capability, "driver": gpu.driver, "CUDA": gpu.cuda}
        words = ", ".join([gpu.name, memory, *(f"{name} {value or 'unknown'}" for name, value in facts.items())])
        rows.append((f"GPU {gpu.index}", words))
    if not machine.gpus:
        rows.append(("GPU", "no usable NVIDIA GPU"))
    return rows
