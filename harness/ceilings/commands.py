"""What `innerloop ceilings` asks for: whose torch measures, on what device, which number formats."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness import environments
from innerloop.harness.ceilings import cache
from innerloop.harness.ceilings.model import DTYPES, Ceilings
from innerloop.harness.ceilings.obtain import Say, ceilings, torch_version
from innerloop.harness.cli.arguments import CommandLine, add_remove, command_line, named_or_all, path_of
from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.cli.output import say
from innerloop.harness.environments import Environment
from innerloop.harness.environments.interpreters import probe
from innerloop.harness.machine import this_machine

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.profiles.engines import EngineProfile

EXAMPLES = """\
examples:
  innerloop ceilings list
  innerloop ceilings measure                   the GPU if there is one, otherwise the CPU
  innerloop ceilings measure --device cpu --dtype bfloat16,float32 --engine vllm
  innerloop ceilings measure --missing         measure only what is missing, as a run does
  innerloop ceilings remove --all

PyTorch in an engine's environment takes the measurements: it copies and sums arrays much larger than the caches and
multiplies square matrices, and the best of several repetitions is reported. This takes 1 to 10 s. A run uses the cached
values and measures any that are missing. Measure on an idle machine. docs/method/roofline.md explains how the values
are used.
"""


def parser() -> CommandLine:
    description = "Measure a device's peaks: memory bandwidth and matmul throughput."
    top = command_line("ceilings", description, EXAMPLES)
    verbs = top.add_subparsers(dest="verb", metavar="list | measure | remove")
    listing = verbs.add_parser("list", help="list measurements")
    listing.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    add_measure(verbs.add_parser("measure", help="measure now", description=description))
    add_remove(verbs, "delete measurements", "a name from `list`")
    return top


def add_measure(out: argparse.ArgumentParser) -> None:
    out.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="default: the GPU if there is one, otherwise the CPU",
    )
    whose = out.add_mutually_exclusive_group()
    whose.add_argument(
        "--engine", metavar="NAME", help="the engine whose PyTorch is used; default: any whose environment exists"
    )
    whose.add_argument(
        "--engine-python", metavar="PATH", type=path_of, help="a Python interpreter with torch installed"
    )
    out.add_argument("--dtype", metavar="NAMES", help=f"dtypes, separated by commas: {', '.join(DTYPES)}")
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    out.add_argument(
        "--missing", action="store_true", help="measure only what is missing or was measured on a busy machine"
    )
    out.add_argument("--remeasure", dest="missing", action="store_false", help=argparse.SUPPRESS)  # an older spelling


def spelled(words: Sequence[str]) -> list[str]:
    """The command line with its sub-verb; older spellings had none: `ceilings --list`, `ceilings --device cpu`."""
    if "--list" in words:
        return ["list", *(word for word in words if word != "--list")]
    flags_only = bool(words) and words[0].startswith("-") and words[0] not in ("-h", "--help")
    return ["measure", "--missing", *words] if flags_only else [*words]


def remove(arguments: argparse.Namespace) -> None:
    for name in named_or_all(arguments.names, arguments.all, cache.names(), "measurement"):
        cache.remove(name)
        say(f"removed {name}")


def measured(arguments: argparse.Namespace) -> Ceilings:
    """
    Raises:
        InnerloopError: see `ceilings`; Refused: a wrong name, or no such device.
    """
    machine = this_machine()
    device = machine.device_kinds()[0] if arguments.device == "auto" else arguments.device
    if device not in machine.device_kinds():
        raise Refused("--device cuda: this machine has no usable NVIDIA GPU")
    dtypes = formats(arguments.dtype, device)

    say_beside = partial(say, file=sys.stderr)

    if arguments.engine_python is not None:
        environment = adopted(arguments.engine_python, device)
    else:
        environment = environment_for(arguments.engine, device, machine, say_beside)
    return ceilings(environment, machine, dtypes, say=say_beside, remeasure=not arguments.missing)


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
            raise Refused(f"--dtype: there is no dtype {name!r}{nearest(name, DTYPES)}")
    return names or formats(None, device)


def environment_for(name: str | None, device: str, machine: Machine, say: Say) -> Environment:
    """The engine's environment, made if need be; without a name one that is there, else the torch engine's.

    Raises:
        Refused: the engine does not run here.
    """
    from innerloop.harness.profiles import engines

    if name is None:
        for engine in engines.runnable(machine):
            found = ready(engine, device)
            if found is not None and torch_version(found) is not None:
                return found
    engine = engines.load_engine(name or "torch")
    if (why := engines.why_not(engine, machine, device)) is not None:
        raise Refused(f"{engine.name} cannot run on {device} here: {why}")
    return environments.create(engine, device, say=say)


def ready(engine: EngineProfile, device: str) -> Environment | None:
    """The engine's environment for that device, if it is there."""
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
    python = Path(os.path.expanduser(path)).absolute()
    if (python / "bin" / "python").exists():
        python = python / "bin" / "python"
    if not python.is_file():
        raise Refused(f"--engine-python: {path} is not a Python interpreter")
    told = probe(python)
    if "torch" not in told["packages"]:
        raise Refused(f"--engine-python: {path} has no torch, which the measurement needs")
    return Environment("torch", device, python, None, None, None, {}, None, told["version"])
