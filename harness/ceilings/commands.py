"""`python -m harness.ceilings`: measures what this machine's memory and matrix units can do at most."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.ceilings import DTYPES, Ceilings, Say, ceilings, torch_version
from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_OK, Refused, nearest

if TYPE_CHECKING:
    from innerloop.harness.environments import Environment
    from innerloop.harness.machine import Machine
    from innerloop.harness.profiles.engines import EngineProfile

EXAMPLES = """\
examples:
  python -m harness.ceilings                       of a GPU where there is one, else of the CPU
  python -m harness.ceilings --device cpu --dtype bfloat16,float32
  python -m harness.ceilings --engine vllm --remeasure
  python -m harness.ceilings --list

Measured by torch in an engine's environment: a copy and a sum of arrays far larger than the caches, and products of
square matrices; the best of repeated measurements, which take 1 to 10 s. A run takes them from the cache folder and
measures what it lacks. Measure on a machine that does nothing else. What they are for: docs/metrics.md.
"""


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="python -m harness.ceilings",
        description="Measure the two limits of a device: its memory bandwidth and its matrix rate.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one")
    whose = out.add_mutually_exclusive_group()
    whose.add_argument("--engine", metavar="NAME", help="whose torch measures; default: one whose environment is there")
    whose.add_argument("--engine-python", metavar="PATH", type=Path, help="an interpreter that has torch")
    out.add_argument("--dtype", metavar="NAMES", help=f"number formats, separated by commas: {', '.join(DTYPES)}")
    out.add_argument("--json", action="store_true", help="one JSON document on stdout")
    out.add_argument("--list", action="store_true", help="print what has been measured, and measure nothing")
    out.add_argument("--remeasure", action="store_true", help="measure again what is known")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 refused, 3 it could not be measured, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return as_command(lambda: tell(arguments))


def tell(arguments: argparse.Namespace) -> int:
    found = listed() if arguments.list else [measured(arguments)]
    if arguments.json:
        made = [one.describe() for one in found]
        print(json.dumps(made if arguments.list else made[0], indent=2))
    else:
        show(found)
    return EXIT_OK


def listed() -> list[Ceilings]:
    from innerloop.harness.ceilings import cache

    return cache.every()


def measured(arguments: argparse.Namespace) -> Ceilings:
    """
    Raises:
        InnerloopError: see `ceilings`; Refused: a wrong name, or no such device.
    """
    from innerloop.harness.machine import this_machine

    machine = this_machine()
    device = machine.device_kinds()[0] if arguments.device == "auto" else arguments.device
    if device not in machine.device_kinds():
        raise Refused("--device cuda: this machine has no NVIDIA GPU that can be used")
    dtypes = formats(arguments.dtype, device)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if arguments.engine_python is not None:
        environment = adopted(arguments.engine_python, device)
    else:
        environment = environment_for(arguments.engine, device, machine, say)
    return ceilings(environment, machine, dtypes, say=say, remeasure=arguments.remeasure)


def formats(given: str | None, device: str) -> list[str]:
    """
    Raises:
        Refused: an unknown number format.
    """
    if given is None:
        return [dtype for dtype in DTYPES if device == "cuda" or not dtype.startswith("float8")]
    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in DTYPES:
            raise Refused(f"--dtype: there is no number format {name!r}{nearest(name, DTYPES)}")
    return names or formats(None, device)


def environment_for(name: str | None, device: str, machine: Machine, say: Say) -> Environment:
    """The engine's environment, made if need be; without a name one that is there, else the torch engine's.

    Raises:
        Refused: the engine does not run here.
    """
    from innerloop.harness import environments
    from innerloop.harness.profiles import engines

    if name is None:
        for engine in engines.runnable(machine):
            found = ready(engine, device)
            if found is not None and torch_version(found) is not None:
                return found
    engine = engines.load_engine(name or "torch")
    if (why := engines.why_not(engine, machine, device)) is not None:
        raise Refused(f"{engine.name} does not run on device {device} here: {why}")
    return environments.create(engine, device, say=say)


def ready(engine: EngineProfile, device: str) -> Environment | None:
    """The engine's environment for that device, if it is there."""
    from innerloop.harness import environments

    recipe = engine.environments.get(device)
    if recipe is None or recipe.lock is None:
        return None
    try:
        return environments.existing(environments.plan(engine, device))
    except Refused:
        return None


def adopted(path: Path, device: str) -> Environment:
    """An interpreter of the user's own, which needs torch and no engine.

    Raises:
        Refused: it does not run, or has no torch.
    """
    from innerloop.harness import environments
    from innerloop.harness.environments.interpreters import probe

    python = path.expanduser().absolute()
    if (python / "bin" / "python").exists():
        python = python / "bin" / "python"
    if not python.is_file():
        raise Refused(f"--engine-python: {path} is no interpreter")
    told = probe(python)
    if "torch" not in told["packages"]:
        raise Refused(f"--engine-python: {path} has no torch, which measures")
    return environments.Environment("torch", device, python, None, None, None, {}, None, told["version"])


def show(found: Sequence[Ceilings]) -> None:
    """Prints ceilings for people."""
    from rich.console import Console
    from rich.table import Table

    from innerloop.harness.cli.words import number

    console = Console(highlight=False)
    if not found:
        console.print("nothing has been measured yet: python -m harness.ceilings")
    for one in found:
        console.print(one.key.name, style="bold", markup=False)
        console.print(facts(one), style="dim", markup=False)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for column in ("ceiling", "best", "median", "", "how"):
            table.add_column(column, justify="right" if column in ("best", "median") else "left")
        for kind in ("read", "copy"):
            best, median = one.memory[f"{kind}_bytes_per_s"], one.memory[f"{kind}_median_bytes_per_s"]
            how = f"{kind} of {one.memory['array_bytes'] / 2**20:.0f} MiB"
            table.add_row(f"memory, {kind}", number(best / 1e9), number(median / 1e9), "GB/s", how)
        for dtype, rate in one.matrix.items():
            if rate["ops_per_s"] is None:
                table.add_row(dtype, "-", "-", "", rate["reason"] or "")
                continue
            best, median = rate["ops_per_s"], rate["median_ops_per_s"]
            unit, scale = ("TFLOP/s", 1e12) if best >= 1e12 else ("GFLOP/s", 1e9)
            tf32 = ", TF32" if one.tf32 and dtype == "float32" else ""
            taken = one.ops_per_s(dtype)
            note = f"; taken as {number(taken / scale)}: widened" if taken and taken > best else ""
            how = f"{rate['how']}, {rate['size']} x {rate['size']}{tf32}{note}"
            table.add_row(dtype, number(best / scale), number(median / scale), unit, how)
        console.print(table)


def facts(one: Ceilings) -> str:
    key = one.key
    parts = [f"torch {key.torch}"]
    parts += [f"{key.cores} cores, {one.threads} threads"] if key.device == "cpu" else [f"driver {key.driver}"]
    if one.clocks and one.clocks.get("sm_clock_mhz"):
        parts.append(f"SM clock up to {one.clocks['sm_clock_mhz']:.0f} MHz")
    if one.clocks and one.clocks.get("power_instant_w"):
        parts.append(f"power up to {one.clocks['power_instant_w']:.0f} W")
    parts.append(f"measured {one.measured[:16].replace('T', ' ')} UTC")
    if one.other_cores is not None and one.other_cores > 0.1:
        parts.append(f"other processes used {one.other_cores:.1f} cores meanwhile")
    return " · ".join(parts)
