"""The kinds of profiles: where those that are shipped lie, how one is read, and which kind a file is of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.profiles import WorkloadProfile as Workload
from innerloop.harness.profiles import load_model, load_workload, names, profiles_folder
from innerloop.harness.profiles.engine_profile import EngineProfile
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.profiles.slo import SloProfile, read_slo
from innerloop.harness.profiles.suites import Suite, load_suite
from innerloop.harness.profiles.validation import Strict, read_mapping, validate


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of profile: its name, its folder in profiles/, its schema, fields that only it has, and how one is read
    by name or by path."""

    name: str
    family: str
    schema: type[Strict]
    marks: tuple[str, ...]
    load: Callable[[str], Strict]


def _engine(name: str) -> EngineProfile:
    path = Path(name) if "/" in name else profiles_folder() / "engines" / f"{name}.yaml"
    return validate(EngineProfile, read_mapping(path, name), name)


def _suite(name: str) -> Suite:
    return load_suite(name)[0]


def _slo(name: str) -> SloProfile:
    path = Path(name) if "/" in name else profiles_folder() / "slo" / f"{name}.yaml"
    return read_slo(path, name)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("model", "models", ModelProfile, ("hidden_size", "config", "base"), load_model),
        Kind("workload", "workloads", Workload, ("load",), load_workload),
        Kind("engine", "engines", EngineProfile, ("environments",), _engine),
        Kind("suite", "suites", Suite, ("grid", "points"), _suite),
        Kind("slo", "slo", SloProfile, ("limits",), _slo),
    )
}


def kind_of(name: str) -> Kind:
    """A kind by its name, `model` or `models`.

    Raises:
        Refused: there is no such kind.
    """
    for kind in KINDS.values():
        if name in (kind.name, kind.family):
            return kind
    raise Refused(f"there is no profile kind {name!r}{nearest(name, KINDS)}")


def kind_with(name: str) -> Kind:
    """The kind of the shipped profile of that name.

    Raises:
        Refused: there is none, or several kinds have one.
    """
    found = [kind for kind in KINDS.values() if name in names(kind.family)]
    if len(found) > 1:
        raise Refused(f"{name} is the name of several profiles; give a kind: {', '.join(kind.name for kind in found)}")
    if not found:
        known = [one for kind in KINDS.values() for one in names(kind.family)]
        raise Refused(f"there is no profile {name!r}{nearest(name, known)}", "list them with innerloop profiles list")
    return found[0]


class Shipped(TypedDict):
    """A profile that comes with innerloop, as JSON data."""

    kind: str
    name: str
    title: str
    description: str
    path: str


def shipped(kind: Kind) -> list[Shipped]:
    """Every profile of a kind that comes with innerloop, by name."""
    found: list[Shipped] = []
    for name in names(kind.family):
        path = profiles_folder() / kind.family / f"{name}.yaml"
        data = read_mapping(path, path.name)
        found.append(
            {
                "kind": kind.name,
                "name": name,
                "title": data.get("title") or "",
                "description": data.get("description") or data.get("summary") or "",
                "path": str(path),
            }
        )
    return found


def text_of(kind: Kind, name: str) -> str:
    """The YAML text of a shipped profile.

    Raises:
        Refused: there is none of that name.
    """
    if name not in names(kind.family):
        raise Refused(f"there is no {kind.name} {name!r}{nearest(name, names(kind.family))}")
    return (profiles_folder() / kind.family / f"{name}.yaml").read_text(encoding="utf-8")


def check(path: Path) -> Kind:
    """The kind of the profile in a file, which is whole and right.

    Raises:
        Refused: it cannot be read, is of no kind, or a field is wrong.
    """
    if not os.path.lexists(path):
        raise Refused(f"there is no file {path}")
    data = read_mapping(path, str(path))
    for kind in sorted(KINDS.values(), key=lambda kind: "base" in kind.marks):  # which a suite has, too
        if not data.keys().isdisjoint(kind.marks):
            kind.load(str(path.absolute()))
            return kind
    marks = ", ".join(f"{kind.marks[0]} ({kind.name})" for kind in KINDS.values())
    raise Refused(f"{path} is not a profile of any kind: it has none of the fields {marks}")


def json_schema(kind: Kind) -> Mapping[str, Any]:
    """The JSON Schema of a kind, for editors that check YAML."""
    schema = kind.schema.model_json_schema()
    if kind.schema is ModelProfile:
        schema = with_base(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


FILLED_IN = ("name", "num_key_value_heads", "head_dim")  # of a model's file, where it leaves them out


def with_base(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A model's schema for a file, which may change another model, or hold a whole config.json: then nothing else is
    required."""
    whole = [name for name in schema["required"] if name not in FILLED_IN]
    base = {
        "type": "string",
        "title": "Base",
        "description": "the model that this one changes: a name, or the path to a YAML file, a config.json or a folder",
    }
    ways = [{"required": [name]} for name in ("base", "config")]
    return {
        **schema,
        "properties": {"base": base, **schema["properties"]},
        "required": [],
        "anyOf": [*ways, {"required": whole}],
    }
