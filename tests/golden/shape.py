"""JSON documents compared with what was recorded: by value, or by their keys and the types of their values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

Shape = dict[str, set[str]]  # a path such as latency_s.ttft.mean or reasons[].code -> the JSON types seen there
TYPES = {dict: "object", list: "list", str: "string", bool: "boolean", int: "integer", float: "number"}
OPEN = (
    "environment.packages",
    "environment.variables",
    "caches.made_in_window",
)  # objects whose keys are data: one path stands for them all


def shape(*documents: Any) -> Shape:
    """Every path of the documents with the types seen there."""
    found: Shape = {}
    for document in documents:
        for path, name in walk("", document):
            found.setdefault(path, set()).add(name)
    return found


def walk(path: str, value: Any) -> Iterator[tuple[str, str]]:
    yield path, TYPES.get(type(value), "null")
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(f"{path}.*" if path in OPEN else f"{path}.{key}".lstrip("."), item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(f"{path}[]", item)


def parent(path: str) -> str:
    """The path of what holds it: a list for its items, else an object."""
    return path[:-2] if path.endswith("[]") else path.rpartition(".")[0]


def strange(found: Shape, expected: Shape) -> list[str]:
    """What one document has that no recorded one had, and what it lacks.

    A path may be missing where nothing could hold it: below null, or below an empty list. A type must have been
    recorded at that path.
    """
    out = [f"{path}: is new" for path in found.keys() - expected.keys()]
    for path, names in expected.items():
        holder = found.get(parent(path), set())
        if path not in found and "object" in holder and not path.endswith("[]"):
            out.append(f"{path}: is missing")
        elif surplus := found.get(path, set()) - names:
            out.append(f"{path}: {', '.join(sorted(surplus))}, not {', '.join(sorted(names))}")
    return sorted(out)


def lines(found: Mapping[str, set[str]]) -> str:
    """A shape as a file, one path a line."""
    return "".join(f"{path} {' '.join(sorted(names))}\n" for path, names in sorted(found.items()))


def parsed(text: str) -> Shape:
    out: Shape = {}
    for line in text.splitlines():
        path, _, names = line.partition(" ")
        out[path] = set(names.split())
    return out


def unlike(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Where two documents differ. Fractions may differ in their last digits: they come from numpy and its BLAS."""
    if isinstance(found, dict) and isinstance(expected, dict):
        if list(found) != list(expected):
            yield f"{path}: keys {list(found)}, not {list(expected)}"
        for key in found.keys() & expected.keys():
            yield from unlike(found[key], expected[key], f"{path}.{key}")
    elif isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            yield f"{path}: {len(found)} items, not {len(expected)}"
        for place, (one, other) in enumerate(zip(found, expected, strict=False)):
            yield from unlike(one, other, f"{path}[{place}]")
    elif isinstance(found, float) and isinstance(expected, float):
        if not math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12):
            yield f"{path}: {found}, not {expected}"
    elif found != expected or type(found) is not type(expected):
        yield f"{path}: {found!r}, not {expected!r}"
