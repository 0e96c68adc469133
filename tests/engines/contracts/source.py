"""Proves that what an adapter touches exists in an engine's source, which is read as text and never imported.

What is touched is written as one string a thing:

    package.module                             the module is there
    package.module:name                        a class, function, constant or import of that module
    package.module:Class.member                a method, property, field, or an attribute set on `self`; inherited too
    package.module:function(a, b)              the parameters exist by name; also `Class.method(a, b)`
    package.module:Class(a, b)                 parameters of `__init__`, or the fields of a class that has none
    package.module:Class.method ~ fragment     the body holds this expression or statement, however it is laid out
    package.module:Class.method # hash         the body is still the one that was read: its `fingerprint`
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from tests.engines.contracts.describe import Class, Module, describe, statements


class Source(Protocol):
    """Where modules are looked up: a folder of source text, or a table of what once stood there."""

    def module(self, name: str) -> Module | None: ...

    def body(self, module: str, path: str) -> ast.AST | None:
        """The definition of a function, method or class; None where it is not there, or a table, which keeps none."""


class Tree:
    """A folder that holds packages as they would be installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        if name not in self._known:
            found = self._text(name)
            self._known[name] = None if found is None else _described(found[0], name, found[1])
        return self._known[name]

    def body(self, module: str, path: str) -> ast.AST | None:
        found = self._parsed(module)
        return None if found is None else _definition(found[0], path)

    def _parsed(self, name: str) -> tuple[ast.Module, bool] | None:
        found = self._text(name)
        return None if found is None else (_parse(found[0]), found[1])

    def _text(self, name: str) -> tuple[str, bool] | None:
        base = self.folder / name.replace(".", "/")
        for path, package in ((base.with_name(base.name + ".py"), False), (base / "__init__.py", True)):
            if path.is_file():
                return path.read_text(encoding="utf-8"), package
        return None


@lru_cache(maxsize=64)  # many tests read trees that differ in one file
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


@lru_cache(maxsize=256)
def _described(text: str, name: str, package: bool) -> Module:
    return describe(_parse(text), name, package)


class Table:
    """Signatures stored as JSON: {"source", "version", "modules": {name: what `describe` found}}."""

    def __init__(self, path: Path) -> None:
        self.content = json.loads(path.read_text())

    def module(self, name: str) -> Module | None:
        stored = self.content["modules"].get(name)
        if stored is None:
            return None
        classes = {key: Class(**value) for key, value in stored["classes"].items()}
        return Module(classes, stored["functions"], stored["names"])

    def body(self, module: str, path: str) -> ast.AST | None:
        return None


def missing(touches: Iterable[str], source: Source) -> list[str]:
    """One sentence for each thing touched that is not in the source; empty if all is there."""
    return [reason for touch in touches if (reason := _missing(touch, source)) is not None]


def table(touches: Iterable[str], source: Source) -> dict[str, Any]:
    """The part of a source that `touches` need, as the "modules" of a Table: bases and re-exports followed."""
    kept: dict[str, Module] = {}
    parts = [_parts(touch) for touch in touches]
    names = {
        "__init__",
        *(path.partition(".")[2] for _, path, _ in parts),
        *(a for _, _, given in parts for a in given),
    }
    for module, path, _ in parts:
        for where, name in _trail(module, path.partition(".")[0], source):
            found = source.module(where)
            if found is None:
                continue
            to = kept.setdefault(where, Module())
            if name in found.classes:
                whole = found.classes[name]
                members = {key: value for key, value in whole.members.items() if key in names}
                to.classes[name] = Class(whole.bases, members, [key for key in whole.fields if key in names])
            elif name in found.functions:
                to.functions[name] = found.functions[name]
            elif name in found.names:
                to.names[name] = found.names[name]
    return {name: asdict(module) for name, module in sorted(kept.items())}


def fingerprint(node: ast.AST) -> str:
    """12 hex digits that change with the code of a definition, not with its layout, comments or docstring."""
    copy = ast.parse(ast.unparse(node)).body[0]
    body = getattr(copy, "body", [])
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        del body[0]
    return hashlib.sha256(ast.unparse(copy).encode()).hexdigest()[:12]


def _missing(touch: str, source: Source) -> str | None:
    module, path, arguments = _parts(touch)
    first = source.module(module)
    if first is None:
        return f"{touch}: there is no module {module}"
    head, _, member = path.partition(".")
    if path and not (head in first.classes or head in first.functions or head in first.names):
        return f"{touch}: {module} has no {head}"
    if not path:
        return None
    where, name, found = module, head, first
    for where, name in _trail(module, head, source):
        found = source.module(where) or Module()
        if name in found.classes or name in found.functions:
            break
    if name in found.classes:
        known = _members(where, name, source)
        if member and member not in known:
            return f"{touch}: {head} has no {member}"
        signature = known[member] if member else _constructor(where, name, source)
    elif member:
        return f"{touch}: {head} is no class whose members could be found"
    else:
        signature = found.functions.get(name)
    body = touch.partition(":")[2]
    if " ~ " in body or " # " in body:
        return _other_body(touch, source.body(where, f"{name}.{member}" if member else name))
    if arguments and signature is None:
        return f"{touch}: {path} takes no parameters that could be found"
    lost = [a for a in arguments if a not in (signature or ())]
    return f"{touch}: {path} has no parameter {', '.join(lost)}" if lost else None


def _other_body(touch: str, node: ast.AST | None) -> str | None:
    if node is None:
        return f"{touch}: its body is not here to be read"
    if " # " in touch:
        wanted, now = touch.rpartition(" # ")[2].strip(), fingerprint(node)
        return None if now == wanted else f"{touch}: its body has changed and is now {now}"
    fragment = ast.unparse(ast.parse(touch.partition(" ~ ")[2].strip()))
    return None if fragment in ast.unparse(node) else f"{touch}: its body does not hold {fragment}"


def _parts(touch: str) -> tuple[str, str, list[str]]:
    """("package.module", "Class.method", ["a", "b"]) of a touch."""
    module, _, rest = touch.partition(":")
    rest = rest.partition(" ~ ")[0].partition(" # ")[0].strip()
    path, _, arguments = rest.partition("(")
    return module.strip(), path.strip(), [a.strip() for a in arguments.rstrip(")").split(",") if a.strip()]


def _trail(module: str, name: str, source: Source) -> Iterator[tuple[str, str]]:
    """The name where it is used, then where each import says that it comes from, and the bases of a class."""
    todo, seen = [(module, name)], set()
    while todo:
        here = todo.pop(0)
        if here in seen:
            continue
        seen.add(here)
        yield here
        found = source.module(here[0])
        if found is None:
            continue
        further = found.classes[here[1]].bases if here[1] in found.classes else [found.names.get(here[1])]
        for target in further:
            where, colon, what = (target or "").partition(":")
            if colon:
                todo.append((where, what))


def _members(module: str, name: str, source: Source) -> dict[str, list[str] | None]:
    merged: dict[str, list[str] | None] = {}
    for where, what in _trail(module, name, source):
        found = source.module(where)
        if found is not None and what in found.classes:
            merged = {**found.classes[what].members, **merged}
    return merged


def _constructor(module: str, name: str, source: Source) -> list[str]:
    names: list[str] = []
    for where, what in _trail(module, name, source):
        found = source.module(where)
        if found is not None and what in found.classes:
            if found.classes[what].members.get("__init__") is not None:
                return [*names, *(found.classes[what].members["__init__"] or ())]
            names += found.classes[what].fields
    return names


def _definition(tree: ast.Module, path: str) -> ast.AST | None:
    here: ast.AST | None = tree
    for name in path.split("."):
        body = statements(getattr(here, "body", []))
        wanted = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        here = next((node for node in body if isinstance(node, wanted) and node.name == name), None)
    return here
