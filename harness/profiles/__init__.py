"""Models and workloads as typed profiles, read from YAML by name or by path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.profiles.lengths import MAX_TOKENS, Fixed, FromFile, Lognormal, Normal, Uniform
from innerloop.harness.profiles.loads import Closed, Offline, Open
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.profiles.settings import Settings, check_settings, resolve_settings
from innerloop.harness.profiles.sources import CONFIG, beside_file, config_file, from_config, on_base, plain
from innerloop.harness.profiles.strict import Strict
from innerloop.harness.profiles.validation import Fields, apply_overrides, parse_assignments, read_mapping, validate
from innerloop.harness.profiles.workloads import WorkloadProfile

__all__ = [
    "MAX_TOKENS", "Closed", "Fixed", "FromFile", "Lognormal", "ModelProfile", "Normal", "Offline", "Open", "Seeds",
    "Settings", "Uniform", "WorkloadProfile", "load_model", "load_workload", "resolve_settings",
]  # fmt: skip


class Seeds(Strict):
    """Seeds of the three random streams; changing one does not affect the other two."""

    content: int = Field(default=0, ge=0, lt=2**63)
    lengths: int = Field(default=0, ge=0, lt=2**63)
    schedule: int = Field(default=0, ge=0, lt=2**63)


def parse_seeds(text: str | int) -> Seeds:
    """`"1"` seeds all three; `"schedule=7"` one, the others being 0; `"1,schedule=7"` all, then one apart.

    Raises:
        Refused: not such a text, a negative number or an unknown name.
    """
    parts = str(text).split(",")
    if "=" not in parts[0] and not re.fullmatch(r"\s*[-+]?\d{1,30}\s*", parts[0]):
        raise Refused(f"--seed: {parts[0]!r} is not a whole number; use --seed 1 or --seed 1,schedule=7")
    values: dict[str, int] = {}
    if re.fullmatch(r"\s*[-+]?\d{1,30}\s*", parts[0]):
        values = dict.fromkeys(Seeds.model_fields, int(parts.pop(0)))
    return validate(Seeds, {**values, **parse_assignments(parts, "--seed")}, "--seed")


def profiles_folder() -> Path:
    """The folder of the profiles that come with the package."""
    return Path(__file__).resolve().parents[2] / "profiles"


def names(family: str) -> list[str]:
    """The names of the shipped profiles of a family, "models" or "workloads", sorted."""
    return sorted(path.stem for path in (profiles_folder() / family).glob("*.yaml"))


def load_model(name: str, overrides: Iterable[str] = ()) -> ModelProfile:
    """A model by name, or by the path of a YAML file, of a config.json or of the folder of one; `overrides` as in
    `--model-arg hidden_size=1024`.

    Raises:
        Refused: no such profile, or a field that is wrong.
    """
    data, source = _read("models", "model", name, overrides)
    model = validate(ModelProfile, data, source)
    check_settings(model.settings, source, "settings.")
    return model


def load_workload(name: str, overrides: Iterable[str] = ()) -> WorkloadProfile:
    """A workload by name or by the path of a YAML file; `overrides` as in `--workload-arg prompt.tokens.max=64`.

    A relative path of a lengths file counts from the YAML file's folder, one in an override from the current folder.

    Raises:
        Refused: no such profile, or a field that is wrong.
    """
    data, source = _read("workloads", "workload", name, overrides)
    return validate(WorkloadProfile, data, source)


def _read(family: str, option: str, name: str, overrides: Iterable[str]) -> tuple[Fields, str]:
    """A profile's fields with the overrides in place, and what to call their source in a message."""
    data, source = _own(family, option, name)
    if family == "models":
        data = on_base(data, lambda base: _own(family, option, base)[0])
    if items := list(overrides):
        data = apply_overrides(data, items, f"--{option}-arg")
        source = f"{source} with " + " ".join(f"--{option}-arg {item}" for item in items)
    return data, source


def _own(family: str, option: str, name: str) -> tuple[Fields, str]:
    """A profile's fields as its file has them, a base left unread, and what to call it in a message."""
    shipped = names(family)
    if family == "models" and name not in shipped and (config := config_file(name)) is not None:
        return from_config(config, str(config)), str(config)
    if "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
        path, source = Path(os.path.expanduser(name)), name
        if not os.path.lexists(path):  # of what is there and no regular file its reader says what is wrong
            parts = ("*.y*ml", f"*/{CONFIG}") if family == "models" else ("*.y*ml",)
            found = [p for part in parts for p in path.parent.glob(part)] if os.path.isdir(path.parent) else []
            beside = [p.parent.name if p.name == CONFIG else p.name for p in found]  # a model's folder, or a file
            raise Refused(f"--{option}: there is no file {name}{nearest(path.name, beside)}")
    else:
        path, source = profiles_folder() / family / f"{name}.yaml", f"profiles/{family}/{name}.yaml"
        if name not in shipped:
            raise Refused(f"--{option}: there is no {option} {name!r}{nearest(name, shipped)}")
    data = read_mapping(path, source)
    data.setdefault("name", plain(path.stem))
    if data.get("base") not in shipped:
        beside_file(data, path.parent)
    _anchor_files(data, path.parent.absolute())
    return data, source


def _anchor_files(data: Any, folder: Path) -> None:
    """Makes the relative paths of files of lengths, of times and of traces absolute, in place."""
    if isinstance(data, list):
        for value in data:
            _anchor_files(value, folder)
    if not isinstance(data, dict):
        return
    if data.get("kind") in ("file", "open", "trace") and isinstance(data.get("path"), str):
        data["path"] = str(folder / os.path.expanduser(data["path"]))
    for value in data.values():
        _anchor_files(value, folder)
