"""What `innerloop environments` does: list, create, register and remove the engines' environments."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from innerloop.harness.cli.arguments import CommandLine, add_remove, command_line, named_or_all, path_of
from innerloop.harness.cli.errors import EXIT_OK, Refused
from innerloop.harness.cli.lists import print_list
from innerloop.harness.cli.output import print_json, say
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import size
from innerloop.harness.environments import build, registered
from innerloop.harness.environments.choose import refuse_without_index
from innerloop.harness.environments.folders import environments_folder
from innerloop.harness.environments.listing import listed, made

EXAMPLES = """\
examples:
  innerloop environments list
  innerloop environments create vllm              for the GPU if there is one, else for the CPU
  innerloop environments create vllm --device cpu --recreate
  innerloop environments remove vllm                      for every device and lock; or give a name from the list
  innerloop environments remove --all
  innerloop environments register mine --engine vllm --python python3.12 --site /opt/vllm --env NAME=VALUE
  innerloop environments register mine --engine vllm --bundle /opt/vllm

A run creates its engine's environment itself; `create` does it ahead of time. Environments are kept in the user's
cache folder, or in $INNERLOOP_HOME/environments. Packages come from the indexes that pip is configured to use.

`register` gives a name to an environment that innerloop did not create: an interpreter, the package folders that form
its PYTHONPATH, and variables. A run uses it if you name it (--environment NAME). Otherwise a run uses it only if
innerloop cannot install its own (no lock, no uv or no package index) and it is the only one for the engine and device.
"""
TRUSTED = """\
Register an environment that innerloop did not make. Whatever it names is run: its interpreter, its packages, and what
its variables preload. Register only what you trust.
"""
CREDENTIALS = """\
Credentials are refused in --env, as they would be stored: export them, and the worker inherits them.
"""


def parser() -> CommandLine:
    description = (
        "Manage the engines' virtual environments: one per engine and device kind, created once from a lock file."
    )
    top = command_line("environments", description, EXAMPLES)
    verbs = top.add_subparsers(dest="verb", metavar="list | create | register | remove")
    listing = verbs.add_parser("list", help="list environments, with size and last use")
    listing.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    create = verbs.add_parser("create", help="create an engine's environment, unless it already exists")
    create.add_argument("engine")
    create.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="default: the GPU if there is one, otherwise the CPU",
    )
    create.add_argument("--recreate", action="store_true", help="create it anew; an existing one stays if that fails")
    create.add_argument("--dry-run", action="store_true", help="resolve every package without creating anything")
    known = verbs.add_parser(
        "register", help="register an existing environment under a name", description=TRUSTED, epilog=CREDENTIALS
    )
    known.add_argument("name")
    known.add_argument("--engine", required=True)
    known.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="default: what its packages are built for; where that is both, the GPU if there is one, otherwise the CPU",
    )
    known.add_argument(
        "--python",
        type=path_of,
        default=Path(sys.executable),
        metavar="PATH",
        help="the interpreter; default: the one that runs innerloop",
    )
    known.add_argument(
        "--site", type=path_of, action="append", default=[], metavar="DIR", help="a folder of packages; may be repeated"
    )
    known.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an environment variable for the worker; may be repeated",
    )
    known.add_argument(
        "--bundle",
        type=path_of,
        metavar="DIR",
        help="the folder of an unpacked environment bundle; --site and --env are applied after its env.sh",
    )
    names = "an engine (removes its environments for every device and lock), or a name from `list`"
    remove = add_remove(verbs, "remove environments, or unregister registered ones", names)
    remove.add_argument("--device", choices=("cpu", "cuda"), help="only environments for this kind of device")
    return top


def do(arguments: argparse.Namespace) -> int:
    if arguments.verb == "list":
        show(arguments.json)
    elif arguments.verb == "create":
        make(arguments.engine, arguments.device, arguments.recreate, arguments.dry_run)
    elif arguments.verb == "register":
        keep(arguments)
    elif arguments.verb == "remove":
        clear(arguments)
    else:
        parser().print_help()
    return EXIT_OK


def show(as_json: bool) -> None:
    found = listed()
    if as_json:
        print_json({"environments": [asdict(one) for one in found]}, "environments")
        return
    if not found:
        say(f"no environments in {environments_folder()} yet")
        return
    from innerloop.harness.cli.console import PlainConsole

    columns = ("name", "state", "engine version", "python", "size", "created", "last used")
    rows = [
        (
            one.name,
            one.state,
            one.version or "-",
            one.python or "-",
            size(one.bytes),
            *(when[:16].replace("T", " ") if when else "-" for when in (one.created, one.last_used)),
        )
        for one in found
    ]
    console = PlainConsole()
    print_list(console, columns, rows, right=("size",))
    console.out(f"in {environments_folder()}, times in UTC")


def make(name: str, device: str, recreate: bool, only_look: bool = False) -> None:
    from innerloop.harness.machine import this_machine
    from innerloop.harness.profiles import engines

    engine = engines.load_engine(name)
    if device == "auto":  # a device that is named may be one that only the machine this is prepared for has
        machine = this_machine()
        able = engines.devices(engine, machine)
        if not able and not only_look:
            raise engines.refuse(engine, machine)
        device = able[0] if able else next(iter(engine.environments))
    refuse_without_index(engine, device, recreate)
    if only_look:
        planned, packages = build.look_up(engine, device, say=say)
        say(*packages)
        count = "1 package" if len(packages) == 1 else f"{len(packages)} packages"
        say(f"{planned.lock.name}: {count}, all available, for Python {planned.python_version}")
        say("nothing was downloaded; hashes are verified when the packages are installed")
        say(f"would create: {planned.folder}")
        return
    one = build.create(engine, device, say=say, recreate=recreate)
    say(f"ready: {engine.title} {one.version} with Python {one.python_version} in {one.folder}")


def keep(arguments: argparse.Namespace) -> None:
    from innerloop.harness.profiles.engines import load_engine

    sites, env = registered.bundle(arguments.bundle) if arguments.bundle else ([], {})
    for text in arguments.env:
        key, equals, value = text.partition("=")
        if not equals:
            raise Refused(f"--env: {text!r} is not KEY=VALUE")
        env[key] = value
    engine = load_engine(arguments.engine)
    one = registered.register(
        arguments.name, engine, arguments.device, arguments.python, [*sites, *arguments.site], env
    )
    say(f"registered {one.name}: {engine.title} {one.version} on {one.device} with Python {one.python_version}")
    say(as_called(f"use it: innerloop run --environment {one.name}"))


def clear(arguments: argparse.Namespace) -> None:
    """Removes what innerloop made, and forgets what was registered."""
    from innerloop.harness.profiles.engines import engine_names

    ours, registrations = made(sizes=False), {one.name: one for one in registered.everything()}
    if device := arguments.device:
        ours = [one for one in ours if one.device == device]
        registrations = {name: one for name, one in registrations.items() if one.device == device}
    known = sorted({*registrations, *engine_names(), *(name for one in ours for name in (one.name, one.engine))})
    names = named_or_all(arguments.names, arguments.all, known, "environment")
    forgotten = [name for name in registrations if name in names]
    for name in forgotten:
        registered.unregister(name)
        say(f"unregistered {name}; its files are kept")
    removed = [one for one in ours if one.name in names or one.engine in names]
    for one in removed:
        build.remove(Path(one.folder))
        say(f"removed {one.name}")
    if not forgotten and not removed:
        say("nothing to remove")
