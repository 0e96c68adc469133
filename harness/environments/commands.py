"""`python -m harness.environments`: list, create and remove the engines' virtual environments."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from harness import environments
from harness.errors import EXIT_INTERRUPTED, EXIT_OK, InnerloopError, Refused

EXAMPLES = """\
examples:
  python -m harness.environments list
  python -m harness.environments create vllm              for a GPU where there is one, else for the CPU
  python -m harness.environments create vllm --device cpu --recreate
  python -m harness.environments remove vllm
  python -m harness.environments remove --all

A run makes its engine's environment itself; `create` does it beforehand. Environments lie in the user's cache folder,
or in $INNERLOOP_HOME/environments. Packages come from where pip is configured to look.
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """An environment's folder as `list` shows it. Times are UTC, ISO 8601; None: unknown.

    state: "ready"; "outdated": made from another lock than this version's; "broken": its Python is gone;
    "unfinished": half-made, to be made again at the next use.
    bytes: on disk, hard links counted once (uv may share files with its cache).
    """

    name: str
    engine: str
    device: str
    state: str
    version: str | None
    python: str | None
    bytes: int
    created: str | None
    last_used: str | None
    folder: str


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m harness.environments",
        description="Engines' virtual environments: one an engine and kind of device, made once from a lock.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="list | create | remove")
    listing = verbs.add_parser("list", help="what is there, its size and last use")
    listing.add_argument("--json", action="store_true", help="one JSON document on stdout")
    create = verbs.add_parser("create", help="make an engine's environment, unless it is there")
    create.add_argument("engine")
    create.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    create.add_argument("--recreate", action="store_true", help="remove the one that is there first")
    remove = verbs.add_parser("remove", help="remove an engine's environments, of every device and lock")
    remove.add_argument("engine", nargs="?")
    remove.add_argument("--device", choices=("cpu", "cuda"), help="only those for this kind of device")
    remove.add_argument("--all", action="store_true", help="remove every engine's")
    return top


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 2 refused, 3 the installer failed, 130 interrupted."""
    arguments = parser().parse_args(argv)
    from harness.launcher import Stopped, stop_signals

    try:
        with stop_signals():
            if arguments.verb == "list":
                show(arguments.json)
            elif arguments.verb == "create":
                make(arguments.engine, arguments.device, arguments.recreate)
            else:
                clear(arguments.engine, arguments.device, arguments.all)
    except InnerloopError as error:
        print(f"innerloop: {error}", *error.details, sep="\n  ", file=sys.stderr)
        return error.exit_code
    except Stopped as stopped:
        print(f"innerloop: interrupted by {stopped}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK


def show(as_json: bool) -> None:
    found = listed()
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    if not found:
        print(f"no environments in {environments.environments_folder()}")
        return
    from rich.console import Console

    from harness.listing import print_list
    from harness.words import size

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
    console = Console()
    print_list(console, columns, rows, right=("size",))
    console.out(f"in {environments.environments_folder()}, times in UTC", highlight=False)


def make(name: str, device: str, recreate: bool) -> None:
    from harness.machine import this_machine
    from harness.profiles import engines

    engine = engines.load_engine(name)
    if device == "auto":  # a device that is named may be one that only the machine this is prepared for has
        machine = this_machine()
        able = engines.devices(engine, machine)
        if not able:
            raise engines.refuse(engine, machine)
        device = able[0]
    made = environments.create(engine, device, say=lambda text: print(text, flush=True), recreate=recreate)
    print(f"ready: {engine.title} {made.version} with Python {made.python_version} in {made.folder}")


def clear(name: str | None, device: str | None, every: bool) -> None:
    if (name is None) != every:
        raise Refused("name one engine to remove its environments, or give --all")
    if name is not None:
        from harness.profiles.engines import load_engine

        load_engine(name)
    chosen = [one for one in listed(sizes=False) if name in (None, one.engine) and device in (None, one.device)]
    for one in chosen:
        environments.remove(Path(one.folder))
        print(f"removed {one.name}")
    if not chosen:
        print("nothing to remove")


def listed(sizes: bool = True) -> list[Listed]:
    """Every environment in the cache folder, whole or not, by name."""
    root = environments.environments_folder()
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [look(folder, sizes) for folder in folders if folder.name.count("-") >= 2 and folder.name[0] != "."]


def look(folder: Path, sizes: bool) -> Listed:
    engine, device, _ = folder.name.rsplit("-", 2)
    record = environments.read_marker(folder)
    state = "ready"
    if record is None:
        state = "unfinished"
    elif not (folder / "bin" / "python").exists():
        state = "broken"
    elif record["lock_hash"] != current_lock_hash(engine, device):
        state = "outdated"
    used = None
    if record is not None:
        seconds = (folder / environments.MARKER).stat().st_mtime
        used = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
    return Listed(
        name=folder.name,
        engine=engine,
        device=device,
        state=state,
        version=record["version"] if record else None,
        python=record["python_version"] if record else None,
        bytes=disk_bytes(folder) if sizes else 0,
        created=record["created"] if record else None,
        last_used=used,
        folder=str(folder),
    )


def current_lock_hash(engine: str, device: str) -> str | None:
    """The hash of the lock that this version of innerloop would use; None if it has none."""
    import hashlib

    from harness.profiles.engines import load_engine

    try:
        recipe = load_engine(engine).environments.get(device)
    except Refused:
        return None
    if recipe is None or recipe.lock is None:
        return None
    return hashlib.sha256(environments.lock_path(recipe.lock).read_bytes()).hexdigest()


def disk_bytes(folder: Path) -> int:
    """What a folder takes on the disk, each file once."""
    import os

    seen: dict[tuple[int, int], int] = {}
    for top, _, files in os.walk(folder):
        for name in files:
            try:
                status = os.lstat(os.path.join(top, name))
            except OSError:
                continue  # removed while we look
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())
