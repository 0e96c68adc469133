"""`python -m harness.doctor`: what this machine is, what runs on it, what doesn't and why, what is there."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_OK

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiles.engines import EngineProfile

EXAMPLES = """\
examples:
  python -m harness.doctor                  a report for people
  python -m harness.doctor --json           the same as one JSON document
  CUDA_VISIBLE_DEVICES= python -m harness.doctor      as if there were no GPU

To make an engine's environment beforehand: python -m harness.environments create ENGINE
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m harness.doctor",
        description="Says what this machine is, which engines run on it, which don't and why, what is there already.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return top


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 also where no engine runs, since saying so is what it is for."""
    arguments = parser().parse_args(argv)
    return as_command(lambda: tell(as_json=arguments.json))


def tell(*, as_json: bool) -> int:
    from innerloop.harness.machine import this_machine

    found = examine(this_machine())
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        from rich.console import Console

        report(found, Console())
    return EXIT_OK


def examine(machine: Machine) -> dict[str, Any]:
    """Everything that the report says, as JSON data. `devices` of an engine: where it runs here, the default first."""
    from innerloop import harness
    from innerloop.harness.environments.commands import listed
    from innerloop.harness.machine import cache_folder, checkout_commit
    from innerloop.harness.machine.uv import find_uv
    from innerloop.harness.profiles import engines
    from innerloop.harness.telemetry.watched import inventory

    known = []
    for engine in engines.all_engines():
        able = runs_on(engine, machine)
        known.append(
            {
                "name": engine.name,
                "title": engine.title,
                "adapter": engine.adapter,
                "layers": engine.layers,
                "devices": able,
                "why_not": None if able else engines.why_not(engine, machine),
                "needs": engine.needs,
            }
        )
    runnable = [engine["name"] for engine in known if engine["why_not"] is None]
    return {
        "innerloop": {"version": harness.__version__, "commit": checkout_commit(), "cache": str(cache_folder())},
        "machine": machine.describe(),
        "default_engine": runnable[0] if runnable else None,
        "engines": known,
        "environments": [
            {key: getattr(one, key) for key in ("name", "engine", "device", "state", "version", "bytes", "last_used")}
            for one in listed()
        ],
        "uv": find_uv(),
        "telemetry": inventory(),
    }


def runs_on(engine: EngineProfile, machine: Machine) -> list[str]:
    """The kinds of device that the engine runs on here, in its own environment or in one that is registered for it."""
    from innerloop.harness.environments import registered
    from innerloop.harness.profiles import engines

    return [
        kind
        for kind in machine.device_kinds()
        if engines.why_not(engine, machine, kind, own_python=registered.automatic(engine, kind) is not None) is None
    ]


def report(found: dict[str, Any], console: Console) -> None:
    """Prints what `examine` found."""
    from innerloop.harness.cli.lists import print_list
    from innerloop.harness.cli.words import size

    def say(text: str = "") -> None:
        console.out(text, highlight=False)

    innerloop = found["innerloop"]
    commit = f", commit {innerloop['commit'][:12]}" if innerloop["commit"] else ""
    dirty = " (changed)" if (innerloop["commit"] or "").endswith("-dirty") else ""
    say(f"innerloop {innerloop['version']}{commit}{dirty}, cache in {innerloop['cache']}")
    say()
    print_list(console, ("machine", ""), machine_rows(found["machine"]))
    say()
    telemetry = found["telemetry"]
    if telemetry["devices"]:
        columns = ("device", "driver", "memory", "power limit", "MIG", "cannot be read there")
        print_list(console, columns, device_rows(telemetry["devices"]))
    if telemetry["note"]:
        say(f"no device telemetry: {telemetry['note']}" if not telemetry["devices"] else telemetry["note"])
    say("the CPU's energy " + ("can be read" if telemetry["cpu_energy"] else "cannot be read (powercap, RAPL)"))
    say()
    rows = [
        (
            engine["name"] + (" *" if engine["name"] == found["default_engine"] else ""),
            "runs" if engine["why_not"] is None else "no",
            ", ".join(engine["devices"]) or "-",
            ", ".join(engine["layers"]) if engine["why_not"] is None else engine["why_not"],
        )
        for engine in found["engines"]
    ]
    print_list(console, ("engine", "here", "on", "layers, or why not"), rows)
    if found["default_engine"]:
        say("* the default where no engine is named")
    else:
        say("No engine runs here; each of them needs:")
        for engine in found["engines"]:
            say(f"  {engine['name']}: {engine['needs']}")
    say()
    if found["environments"]:
        made = [(one["name"], one["state"], one["version"] or "-", size(one["bytes"])) for one in found["environments"]]
        print_list(console, ("environment", "state", "engine version", "size"), made, right=("size",))
    else:
        say("no environments yet: a run makes the one that it needs, or python -m harness.environments create ENGINE")
    if found["uv"] is None:
        say("uv is missing, so no environment can be made: pip install uv")


def device_rows(devices: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The devices as telemetry sees them, one a row."""
    from innerloop.harness.cli.words import NONE, size

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
                ", ".join(lacking) or "nothing: all is there",
            )
        )
    return rows


def machine_rows(machine: dict[str, Any]) -> list[tuple[str, str]]:
    """The machine's facts, one a row."""
    from innerloop.harness.cli.words import size

    cores = f"{machine['physical_cores']} cores, {machine['logical_cores']} threads usable"
    if machine["machine_logical_cores"] != machine["logical_cores"]:
        cores += f" of {machine['machine_logical_cores']} threads"
    if machine["cpu_quota"] is not None:
        cores += f", limited to {machine['cpu_quota']:g} CPUs' time"
    rows = [
        ("system", f"{machine['os_name']}, {machine['os']} {machine['kernel']}, {machine['libc'] or 'no glibc'}"),
        ("CPU", f"{machine['cpu']} ({machine['arch']}), {cores}"),
        ("instructions", " ".join(machine["cpu_flags"]) or "-"),
        ("memory", f"{size(machine['memory_bytes'])}, {size(machine['memory_available_bytes'])} available"),
        ("Python", machine["python"]),
    ]
    for gpu in machine["gpus"]:
        words = f"{gpu['name']}, {size(gpu['memory_bytes'])}, compute capability {gpu['compute_capability']}"
        rows.append((f"GPU {gpu['index']}", f"{words}, driver {gpu['driver']}, CUDA {gpu['cuda']}"))
    if not machine["gpus"]:
        rows.append(("GPU", "no NVIDIA GPU that can be used"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
