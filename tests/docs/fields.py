"""The reference of stored documents: every field of result.json, and of the documents of several runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from innerloop.harness.store.schemas import KINDS, schema
from tests.docs.tables import cell, made_by, table

TITLES = {
    "waterfall": "Layers (`run --layers`)",
    "trials": "Trials (`run --trials`, `--until`, `--windows`)",
    "comparison": "A comparison (`compare`)",
    "gate": "A gate (`gate`, `compare --fail-if`)",
    "noise": "Noise (`noise`)",
    "sweep": "A sweep (`sweep`, `suite`, a grid of `run`)",
    "find_rate": "The highest load (`find-rate`)",
    "bisect": "A bisection (`bisect`)",
    "steps": "What `steps --json` prints",
}
HEAD = ("field", "type, unit", "what it is", "null when")
MOST_PATHS = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A class of a document: its name, its schema, and the paths at which it stands there."""

    name: str
    node: dict[str, Any]
    paths: tuple[str, ...]


def parts(whole: dict[str, Any]) -> list[Part]:
    """The document itself, whose name is empty, then its classes in the order in which they are met."""
    nodes = {"": whole, **whole["$defs"]}
    paths: dict[str, list[str]] = {"": [""]}
    queue = [""]
    while queue:
        name = queue.pop(0)
        for field, node in nodes[name].get("properties", {}).items():
            for kind, suffix in classes(node):
                if kind not in paths:
                    queue.append(kind)
                known = paths.setdefault(kind, [])
                known += [f"{path}.{field}{suffix}".lstrip(".") for path in paths[name][:MOST_PATHS]]
    return [Part(name, nodes[name], tuple(dict.fromkeys(found))) for name, found in paths.items()]


def classes(node: dict[str, Any], suffix: str = "") -> Iterator[tuple[str, str]]:
    """(class, what stands behind the field's name in its path) of all that a field can hold."""
    if "$ref" in node:
        yield node["$ref"].rpartition("/")[2], suffix
    for one in node.get("anyOf", []):
        yield from classes(one, suffix)
    if isinstance(node.get("items"), dict):
        yield from classes(node["items"], f"{suffix}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from classes(node["additionalProperties"], f"{suffix}.*")


def type_of(node: dict[str, Any]) -> str:
    """What a field can hold, without null."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(type_of(one) for one in node["anyOf"] if one.get("type") != "null"))
    if "enum" in node or "const" in node:
        return ", ".join(f"`{one}`" for one in node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        items = [*node.get("prefixItems", [])] or [node.get("items") or {}]
        return "list of " + " and ".join(dict.fromkeys(type_of(one) for one in items))
    if node.get("type") == "object":
        of = node.get("additionalProperties")
        return f"by name: {type_of(of)}" if isinstance(of, dict) and of else "object"
    return str(node.get("type", "anything"))


def row(name: str, node: dict[str, Any], defs: dict[str, Any]) -> tuple[str, str, str, str]:
    kind = type_of(node)
    unit = f"{kind}, {node['unit']}" if "unit" in node else kind
    text = node.get("description") or next((defs[one]["description"] for one, _ in classes(node)), "")
    what = first_sentence(text) if "description" not in node else text
    if "formula" in node:
        what += f"; = {node['formula']}"
    if "better" in node:
        what += f" ({node['better']} is better)"
    return f"`{name}`", unit, what, node.get("null_when", "")


def may_be_null(node: dict[str, Any]) -> bool:
    return any(one.get("type") == "null" for one in node.get("anyOf", []))


def first_sentence(text: str) -> str:
    return text.partition("\n\n")[0].partition(". ")[0].rstrip(".")


def section(part: Part, defs: dict[str, Any], level: int, title: str) -> str:
    where = ", ".join(f"`{path}`" for path in part.paths[:MOST_PATHS] if path)
    more = " and others" if len(part.paths) > MOST_PATHS else ""
    about = cell(part.node.get("description", ""))
    told = [f"{'#' * level} {title}", about] + ([f"At {where}{more}."] if where else [])
    rows = [row(name, node, defs) for name, node in part.node.get("properties", {}).items()]
    return "\n\n".join([*filter(None, told), *([table(HEAD, rows)] if rows else [])])


def result_page() -> str:
    whole = schema("result")
    intro = f"""\
# Every field of result.json

{made_by("generate")}

Schema {whole["version"]}; [result.schema.json](result.schema.json) is the same for programs. Times are in seconds
unless a name ends in `_ns`. What is unknown is `null`, never 0. A minor version only adds fields.
[Speed](../method/speed.md) explains the figures,
[the files of a run](files.md) what lies beside `result.json`. In a path, `[]` is each item of a
list and `*` each name."""
    return pages_of(whole, intro)


def pages_of(whole: dict[str, Any], intro: str) -> str:
    first, *others = parts(whole)
    told = [intro, section(first, whole["$defs"], 2, "The document")]
    told += [section(part, whole["$defs"], 2, part.name) for part in others]
    return "\n\n".join(told) + "\n"


def documents_page(kind: str) -> str:
    whole = schema(kind)
    intro = f"""\
# {TITLES[kind].replace("`", "")}

{made_by("generate")}

Every field of the document of kind `{kind}`, schema {whole["version"]};
[{kind}.schema.json](../{kind}.schema.json) is the same for programs. `document.json` in an experiment's folder holds
it, and `--json` prints it. In a path, `[]` is each item of a list and `*` each name."""
    return pages_of(whole, intro)


def documents() -> dict[str, str]:
    """The pages of all documents but the result's, by their names."""
    return {f"documents/{kind.replace('_', '-')}.md": documents_page(kind) for kind in KINDS if kind != "result"}
