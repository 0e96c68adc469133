"""What `innerloop checkpoints` does: list, create and remove synthetic checkpoints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from innerloop.harness.checkpoints.cache import (
    checkpoints_folder,
    ensure_checkpoint,
    fault,
    made,
    planned_checkpoint,
    remove,
    size_text,
)
from innerloop.harness.checkpoints.tensors import WEIGHT_DTYPES, plan, shards
from innerloop.harness.cli.arguments import CommandLine, add_remove, command_line, named_or_all, whole
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.lists import print_list
from innerloop.harness.cli.output import print_json, say

if TYPE_CHECKING:
    from innerloop.harness.profiles.models import ModelProfile

EXAMPLES = """\
examples:
  innerloop checkpoints list
  innerloop checkpoints create llama3-8b --dry-run      list the files without writing them
  innerloop checkpoints create llama3-8b --dtype float16
  innerloop checkpoints remove llama-tiny-float32-0123456789ab

A run creates the checkpoint that it needs; `create` does it ahead of time.
"""


def parser() -> CommandLine:
    """The command line."""
    description = "Manage synthetic checkpoints: a model profile's architecture with random weights, cached on disk."
    top = command_line("checkpoints", description, EXAMPLES)
    verbs = top.add_subparsers(dest="verb", metavar="list | create | plan | remove")
    listing = verbs.add_parser("list", help="list checkpoints, with sizes")
    create = verbs.add_parser("create", help="create a checkpoint now, unless it already exists")
    planned = verbs.add_parser("plan", help="same as create --dry-run")
    for one in (create, planned):
        one.add_argument("model", metavar="MODEL", help="a model profile's name, or the path to a YAML file")
        one.add_argument("--dtype", choices=WEIGHT_DTYPES, help="dtype of the weights; default: the profile's")
        one.add_argument(
            "--seed", type=whole(0, 999_999_999), default=0, metavar="N", help="seed for the random weights; default: 0"
        )
    create.add_argument("--dry-run", action="store_true", help="list the files without writing them")
    planned.set_defaults(dry_run=True)
    for one in (listing, create, planned):
        one.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    add_remove(verbs, "delete checkpoints", "a name from `list`")
    return top


def do(asked: argparse.Namespace) -> int:
    if asked.verb == "list":
        show_list(checkpoints_folder(), asked.json)
    elif asked.verb == "remove":
        root = checkpoints_folder()
        for name in named_or_all(asked.names, asked.all, [path.name for path in made(root)], "checkpoint"):
            say(f"removed {remove(name, root)}")
    elif asked.verb is not None:
        create(asked)
    else:
        parser().print_help()
    return EXIT_OK


def create(asked: argparse.Namespace) -> None:
    """Makes a checkpoint, or says what would be made."""
    from innerloop.harness.profiles import load_model

    model = load_model(asked.model)
    dtype = asked.dtype or model.dtype
    if asked.dry_run:
        show_plan(model, dtype, asked.seed, asked.json)
        return
    out = sys.stderr if asked.json else sys.stdout
    made = ensure_checkpoint(model, dtype, asked.seed, lambda text: say(text, file=out))
    if asked.json:
        facts = {"path": str(made.path), "bytes": made.bytes, "cached": made.cached, "seconds": made.seconds}
        print_json({"model": model.name, "dtype": dtype, **facts}, "checkpoint")
    else:
        state = "already existed" if made.cached else f"created in {made.seconds:.1f} s"
        say(f"{made.path}  {size_text(made.bytes)}  {state}")


def show_plan(model: ModelProfile, dtype: str, seed: int, as_json: bool) -> None:
    """Prints the files of a checkpoint that has not been made."""
    files = shards(plan(model, dtype))
    total = sum(tensor.bytes for held in files.values() for tensor in held)
    if as_json:
        shown = [
            {"file": name, "tensors": len(held), "bytes": sum(t.bytes for t in held)} for name, held in files.items()
        ]
        where = planned_checkpoint(model, dtype, seed)
        print_json({"model": model.name, "dtype": dtype, **where, "files": shown}, "checkpoint_plan")
        return
    rows = [(file, str(len(held)), size_text(sum(t.bytes for t in held)), held[0].name) for file, held in files.items()]
    print_list(PlainConsole(), ("file", "tensors", "size", "first tensor"), rows, right=("tensors", "size"))
    say(f"{model.name} {dtype}: {sum(map(len, files.values()))} tensors, {total} bytes ({size_text(total)})")


def show_list(root: Path, as_json: bool) -> None:
    """Prints the checkpoints of the cache, with their sizes and whether they are whole."""
    found = [facts(path) for path in made(root)]
    if as_json:
        print_json({"folder": str(root), "checkpoints": found}, "checkpoints")
        return
    rows = [
        (one["name"], size_text(one["bytes"]), "complete" if one["fault"] is None else f"damaged: {one['fault']}")
        for one in found
    ]
    if rows:
        print_list(PlainConsole(), ("name", "size", "state"), rows, right=("size",))
    say(f"in {root}")


class CheckpointFacts(TypedDict):
    """One checkpoint of the cache as JSON data; `fault` None: it is whole."""

    name: str
    bytes: int
    fault: str | None


def facts(path: Path) -> CheckpointFacts:
    """A checkpoint's name, its bytes on disk and what is wrong with it."""
    try:
        size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    except OSError as error:  # another user's, or being removed: the others are listed all the same
        return {"name": path.name, "bytes": 0, "fault": f"it cannot be read: {error.strerror}"}
    return {"name": path.name, "bytes": size, "fault": fault(path)}
