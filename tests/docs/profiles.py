"""The reference of profiles: the fields of a model, workload, engine, suite and latency limits, and the settings."""

from __future__ import annotations

import json
import re
from inspect import cleandoc
from typing import Any

from innerloop.harness.profiles.kinds import KINDS, json_schema
from innerloop.harness.profiles.settings import Settings
from tests.docs.fields import type_of
from tests.docs.tables import made_by, outside_code, table

ABOUT = {
    "model": "`profiles/models`; [Run a model of your own](../how-to/your-own-model.md).",
    "workload": "`profiles/workloads`; [Replay a trace, sessions and bursts](../how-to/replay-a-trace.md).",
    "engine": "`profiles/engines`; [Add an engine](../how-to/add-an-engine.md).",
    "suite": "`profiles/suites`; [Run a grid of configurations](../how-to/sweep.md).",
    "slo": "`profiles/slo`; [Find the highest load within latency limits](../how-to/find-the-highest-load.md).",
}
HEAD = ("field", "type", "default")
NOTE = re.compile(r"^\w+(, \w+)*: ")  # a line of a docstring that is about a field


def page() -> str:
    intro = """\
Files in YAML. `innerloop profiles list` lists those that come with innerloop, `innerloop profiles show KIND NAME`
prints one, `innerloop profiles check FILE` checks your own, and `innerloop profiles schema KIND` prints the JSON Schema
for an editor."""
    told = [
        "# Profiles and settings",
        made_by("generate"),
        intro,
        "## settings",
        "`--set NAME=VALUE`, common to all engines.",
    ]
    told += shape(Settings.model_json_schema(), {}, "settings")
    for name, kind in KINDS.items():
        whole = dict(json_schema(kind))
        told += [f"## {name}", ABOUT[name], *shape(whole, whole.get("$defs", {}), name)]
        for part, node in sorted(whole.get("$defs", {}).items()):
            if node.get("properties"):
                told += [f"### {name}: {part}", *shape(node, whole["$defs"], name)]
    return "\n\n".join(filter(None, told)) + "\n"


def shape(node: dict[str, Any], defs: dict[str, Any], kind: str) -> list[str]:
    """What a class says of itself, and its fields."""
    required = node.get("required", [])
    rows = [
        (f"`{name}`", linked(type_of(resolved(one, defs)), kind), "required" if name in required else default(one))
        for name, one in node.get("properties", {}).items()
    ]
    return [*about(node.get("description", "")), table(HEAD, rows)]


def resolved(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """A reference to a list of names is that list."""
    found = defs.get(node.get("$ref", "").rpartition("/")[2], node)
    return node if found.get("properties") else found


def linked(kind: str, profile: str) -> str:
    """The sections of classes are called by their profile, too: two profiles may have a class of the same name."""
    return re.sub(r"\(#(\w+)\)", rf"(#{profile}-\1)", kind)


def about(text: str) -> list[str]:
    """A docstring as paragraphs; the lines that are about a field as a list."""
    lines: list[str] = []
    for line in cleandoc(text).splitlines():
        if lines and line.strip() and lines[-1] and not NOTE.match(line):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line.strip())
    plain = [outside_code(line) for line in lines if line and not NOTE.match(line)]
    notes = [f"- {outside_code(line)}" for line in lines if NOTE.match(line)]
    return [*plain, "\n".join(notes)]


def default(node: dict[str, Any]) -> str:
    return f"`{json.dumps(node['default'])}`" if "default" in node else ""
