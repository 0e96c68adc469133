"""Where a model's description comes from: a config.json, a folder that holds one, or a profile that changes another."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import read_json
from innerloop.harness.profiles.published import profile_fields
from innerloop.harness.profiles.validation import Fields

CONFIG = "config.json"
LARGEST_BYTES = 10_000_000  # of a config.json
MERGED = ("config", "settings")  # a profile's own entries are put into its base's
DEEPEST = 8  # bases of bases


def config_file(name: str) -> Path | None:
    """The config.json that a model's name means: the file itself, or that of the folder. None: it is no such path.

    Raises:
        Refused: a folder without one.
    """
    path = Path(os.path.expanduser(name))
    if path.suffix == ".json":
        return path
    if not os.path.isdir(path):
        return None
    if not os.path.isfile(path / CONFIG):
        raise Refused(f"--model: there is no {CONFIG} in the folder {name}")
    return path / CONFIG


def weights_folder(name: str | None) -> Path | None:
    """The folder that a model's name means, if it holds weights beside its config.json."""
    path = Path(os.path.expanduser(name or ""))
    held = os.listdir(path) if name and os.path.isfile(path / CONFIG) else ()
    return path if any(file.endswith((".safetensors", ".safetensors.index.json")) for file in held) else None


def from_config(path: Path, source: str) -> Fields:
    """A profile's fields from a config.json.

    Raises:
        Refused: it cannot be read, is no object, or does not say which architecture it is of.
    """
    if not os.path.lexists(path):
        raise Refused(f"--model: there is no file {source}")
    config = read_json(path, source, LARGEST_BYTES)
    if not isinstance(config, dict):
        raise Refused(f"{source} should contain a JSON object, not a {type(config).__name__}")
    try:
        fields = profile_fields(config)
    except Refused as refusal:
        raise Refused(f"{source}: {refusal}") from None
    if "architecture" not in fields:
        raise Refused(f"{source} names neither an architecture (architectures) nor a known model_type")
    return {"name": name_of(path.absolute().parent), "title": fields["architecture"], "source": source, **fields}


def name_of(folder: Path) -> str:
    """What to call the model of a folder, which may be a snapshot in a download cache."""
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        return plain(folder.parents[1].name.rpartition("--")[2])
    return plain(folder.name)


def plain(name: str) -> str:
    """A name as profiles may have it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "model"


def on_base(data: Fields, read: Callable[[str], Fields], depth: int = 0) -> Fields:
    """A profile's fields over those of the one that it names as `base`; `read` gives another's own fields.

    Raises:
        Refused: a base that is no text, cannot be read, or bases without end.
    """
    base, own = data.get("base"), {key: value for key, value in data.items() if key != "base"}
    if isinstance(own.get("config"), dict):
        own = {**profile_fields(own["config"]), **{key: value for key, value in own.items() if key != "config"}}
    if base is None:
        return own
    if not isinstance(base, str):
        raise Refused(f"base is {base!r}; it must be the name of a model or the path to one")
    if depth == DEEPEST:
        raise Refused(f"base: {base} is nested more than {DEEPEST} levels deep")
    under = on_base(read(base), read, depth + 1)
    merged = {key: {**under[key], **own[key]} for key in MERGED if both_mappings(under, own, key)}
    kept = {key: value for key, value in under.items() if key not in ("name", "title")}
    return {**kept, **own, **merged}


def beside_file(data: Fields, folder: Path) -> None:
    """Makes a base's path count from the folder of the file that names it, in place."""
    base = data.get("base")
    if isinstance(base, str) and os.path.exists(folder / os.path.expanduser(base)):
        data["base"] = str(folder / os.path.expanduser(base))


def both_mappings(one: Fields, other: Fields, key: str) -> bool:
    return isinstance(one.get(key), dict) and isinstance(other.get(key), dict)
