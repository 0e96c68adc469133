"""Synthetic checkpoints: any model profile's architecture with random weights, made once and cached by content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from innerloop.harness.checkpoints.formats import Tensor
from innerloop.harness.checkpoints.safetensors_file import INDEX
from innerloop.harness.checkpoints.tensors import SHARD_BYTES, config_json, plan, shards
from innerloop.harness.checkpoints.tokenizer import tokenizer_files
from innerloop.harness.checkpoints.weights import Checkpoint
from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.cli.reading import read_kept
from innerloop.harness.machine import cache_folder
from innerloop.harness.store.folders import DiskFull, Say, discard, disk_errors, locked, sweep, written_whole

if TYPE_CHECKING:
    from innerloop.harness.profiles.models import ModelProfile

WRITER_VERSION = 1  # raise it when the same plan would give other values, or other files beside the weights
RECORD = "checkpoint.json"
ADVICE = "free some space (`innerloop checkpoints list`, `remove`) or set INNERLOOP_HOME to another disk"


class Recipe(TypedDict):
    """What a checkpoint was made of, as its record says; `digest` is that of all that decides its content."""

    digest: str
    model: str
    dtype: str
    seed: int
    writer: int


class PlannedCheckpoint(TypedDict):
    """Where a checkpoint would be, its weights' bytes, and whether it is there."""

    path: str
    bytes: int
    exists: bool


def checkpoints_folder() -> Path:
    """Where checkpoints are kept: a folder of the cache."""
    return cache_folder() / "checkpoints"


def size_text(size: int) -> str:
    """A number of bytes for people: `15.0 GiB`, `84.0 MiB`."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def small_files(model: ModelProfile, dtype: str, files: dict[str, list[Tensor]]) -> dict[str, bytes]:
    """Everything of a checkpoint but the weights, by file name."""
    generation = {"bos_token_id": model.bos_token_id, "eos_token_id": model.eos_token_id, "do_sample": False}
    named: dict[str, object] = {"config.json": config_json(model, dtype), "generation_config.json": generation}
    if len(files) > 1:
        tensors = [(tensor, file) for file, held in files.items() for tensor in held]
        named[INDEX] = {
            "metadata": {"total_size": sum(tensor.bytes for tensor, _ in tensors)},
            "weight_map": {tensor.name: file for tensor, file in tensors},
        }
    return {name: json.dumps(content, indent=2).encode() for name, content in named.items()} | tokenizer_files(model)


def ensure_checkpoint(
    model: ModelProfile,
    dtype: str,
    seed: int = 0,
    say: Say | None = None,
    *,
    folder: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Checkpoint:
    """The synthetic checkpoint of a model profile, written now unless a whole one is in the cache.

    Two processes that ask for the same one at once share the work: the second waits. `say` hears what is going on,
    about twice a second. `folder` replaces the cache's folder.

    Raises:
        Refused: this model or dtype cannot be made.
        DiskFull: no room for it.
        InnerloopError: the folder cannot be written.
    """
    started = time.monotonic()
    say = say or (lambda text: None)
    tensors = plan(model, dtype, shard_bytes)
    files, digest = shards(tensors), recipe_digest(model, dtype, seed, tensors)
    root = folder or checkpoints_folder()
    path = root / f"{plain(model.name)}-{dtype}-{digest[:12]}"
    cached = fault(path, digest) is None
    if not cached:
        small = small_files(model, dtype, files)
        record: Recipe = {"digest": digest, "model": model.name, "dtype": dtype, "seed": seed, "writer": WRITER_VERSION}
        with disk_errors(path, ADVICE):
            root.mkdir(parents=True, exist_ok=True)
            with locked(path, say):
                problem = fault(path, digest)
                cached = problem is None
                if problem is not None:
                    if path.exists():
                        say(f"{path.name} is damaged ({problem}); creating it again")
                    wrote = progress(say, f"writing {model.name} {dtype}", sum(t.bytes for t in tensors))
                    make(path, files, small, seed, record, wrote)
    size = sum((path / name).stat().st_size for name in files)
    return Checkpoint(path, size, cached, digest, time.monotonic() - started, True)


def planned_checkpoint(model: ModelProfile, dtype: str, seed: int = 0) -> PlannedCheckpoint:
    """Where `ensure_checkpoint` would put a checkpoint, its weights' bytes, and whether it is there; writes nothing.

    Raises:
        Refused: this model or dtype cannot be made.
    """
    tensors = plan(model, dtype, SHARD_BYTES)
    digest = recipe_digest(model, dtype, seed, tensors)
    path = checkpoints_folder() / f"{plain(model.name)}-{dtype}-{digest[:12]}"
    return {"path": str(path), "bytes": sum(t.bytes for t in tensors), "exists": fault(path, digest) is None}


def recipe_digest(model: ModelProfile, dtype: str, seed: int, tensors: list[Tensor]) -> str:
    """SHA-256 of everything that decides the files' content: configuration, tensors and their shards, seed, writer."""
    recipe = {
        "writer": WRITER_VERSION,
        "seed": seed,
        "config": config_json(model, dtype),
        **({"routing_zipf": model.routing_zipf} if model.routing_zipf else {}),
        "tensors": [[t.name, t.shape, t.dtype, t.fill.kind, t.fill.value, t.shard] for t in tensors],
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def plain(name: str) -> str:
    """A model's name as one part of a folder name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-") or "model"


def fault(path: Path, digest: str | None = None) -> str | None:
    """What is wrong with a made checkpoint; None: it is whole. Sizes are compared, contents are not read."""
    try:
        record = read_kept(path / RECORD)
        if digest not in (None, record["digest"]):
            return "it was made from a different recipe"
        for name, size in record["files"].items():
            found = (path / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes instead of {size}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{RECORD} cannot be read: {error}"
    return None


def make(
    path: Path,
    files: dict[str, list[Tensor]],
    small: dict[str, bytes],
    seed: int,
    record: Recipe,
    wrote: Callable[[int], None],
) -> None:
    """Writes a checkpoint to `path`, in place of a damaged one; its lock is held.

    Raises:
        DiskFull: it would not fit.
    """
    from innerloop.harness.checkpoints.writer import header, write_shard

    discard(path)
    sweep(path.parent)
    sizes = {name: len(header(held)) + sum(t.bytes for t in held) for name, held in files.items()}
    sizes |= {name: len(content) for name, content in small.items()}
    needed, available = sum(sizes.values()), shutil.disk_usage(path.parent).free
    if needed > available:
        raise DiskFull(
            f"not enough disk space for the checkpoint {path.name}: it needs {size_text(needed)}, "
            f"{path.parent} has {size_text(available)} left",
            ADVICE,
        )
    with written_whole(path) as half_made:
        for name, held in files.items():
            write_shard(half_made / name, held, seed, wrote)
        recorded = json.dumps({**record, "synthetic": True, "files": sizes}, indent=2).encode()
        for name, content in [*small.items(), (RECORD, recorded)]:
            with open(half_made / name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


def progress(say: Say, label: str, total: int) -> Callable[[int], None]:
    """A listener for written bytes that says at most twice a second how far the writing of `total` bytes is."""
    scale, unit = (2**30, "GiB") if total >= 2**30 else (2**20, "MiB")
    done, said = 0, float("-inf")

    def wrote(size: int) -> None:
        nonlocal done, said
        done += size
        now = time.monotonic()
        if done == total or now - said >= 0.5:
            said = now
            say(f"{label}: {done / scale:.1f} of {total / scale:.1f} {unit}")

    return wrote


def made(root: Path) -> list[Path]:
    """The folders of all checkpoints in the cache, whole or damaged, by name."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))


def remove(name: str, root: Path) -> Path:
    """Removes one checkpoint by its folder's name.

    Raises:
        Refused: there is none of that name.
    """
    path = root / name
    if path not in made(root):
        raise Refused(f"there is no checkpoint {name!r}{nearest(name, [known.name for known in made(root)])}")
    try:
        with locked(path, lambda text: None):
            discard(path)
    except OSError as error:
        raise Refused(f"{path} cannot be removed: {error.strerror or error}") from None
    return path
