"""What `python -m harness.checkpoints` does: plan, create, list and remove synthetic checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.checkpoints.cache import checkpoints_folder, ensure_checkpoint, fault, made, remove, size_text
from innerloop.harness.checkpoints.tensors import WEIGHT_DTYPES, plan, shards
from innerloop.harness.cli.errors import EXIT_OK

if TYPE_CHECKING:
    from innerloop.harness.profiles.models import ModelProfile


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m harness.checkpoints",
        description="Synthetic checkpoints: a model profile's architecture with random weights, cached on disk.",
        epilog="example: python -m harness.checkpoints plan llama3-70b",
    )
    verbs = top.add_subparsers(dest="verb", required=True)
    for verb, text in (("plan", "print the files that would be made"), ("create", "make the files now")):
        one = verbs.add_parser(verb, help=text, description=text)
        one.add_argument("model", help="a model profile's name, or the path of a YAML file")
        one.add_argument("--dtype", choices=WEIGHT_DTYPES, help="number format (the profile's own by default)")
        if verb == "create":
            one.add_argument("--seed", type=int, default=0, help="of the random weights (default 0)")
    verbs.add_parser("list", help="what has been made, with sizes", description="what has been made, with sizes")
    one = verbs.add_parser("remove", help="delete checkpoints", description="delete checkpoints")
    one.add_argument("names", nargs="+", metavar="NAME", help="as `list` prints it")
    return top


def do(asked: argparse.Namespace) -> int:
    if asked.verb == "list":
        show_list(checkpoints_folder())
    elif asked.verb == "remove":
        for name in asked.names:
            print(f"removed {remove(name, checkpoints_folder())}")
    else:
        from innerloop.harness.profiles import load_model

        model = load_model(asked.model)
        if asked.verb == "plan":
            show_plan(model, asked.dtype or model.dtype)
        else:
            checkpoint = ensure_checkpoint(model, asked.dtype or model.dtype, asked.seed, print)
            state = "was there already" if checkpoint.cached else f"made in {checkpoint.seconds:.1f} s"
            print(f"{checkpoint.path}  {size_text(checkpoint.bytes)}  {state}")
    return EXIT_OK


def show_plan(model: ModelProfile, dtype: str) -> None:
    """Prints the files of a checkpoint that has not been made."""
    files = shards(plan(model, dtype))
    total = sum(tensor.bytes for held in files.values() for tensor in held)
    for file, held in files.items():
        print(f"{file}  {len(held):4d} tensors  {size_text(sum(t.bytes for t in held)):>9}  {held[0].name} ...")
    print(f"{model.name} {dtype}: {sum(map(len, files.values()))} tensors, {total} bytes ({size_text(total)})")


def show_list(root: Path) -> None:
    """Prints the checkpoints of the cache, with their sizes and whether they are whole."""
    for path in made(root):
        size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        problem = fault(path)
        print(f"{path.name:<48} {size_text(size):>10}  {'whole' if problem is None else f'damaged: {problem}'}")
    print(f"in {root}")
