"""What a module of source text defines, by name: classes with their members, functions with their parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Class:
    """`bases` as "module:name" where they can be found, else the bare name. `members`: a method's parameters by its
    name, None for a field, a property or an attribute."""

    bases: list[str] = field(default_factory=list)
    members: dict[str, list[str] | None] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)  # annotated in the class body, as dataclasses and structs have them


@dataclass(frozen=True, slots=True)
class Module:
    """`names`: every other name of the module, an import with the "module:name" that it stands for."""

    classes: dict[str, Class] = field(default_factory=dict)
    functions: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str | None] = field(default_factory=dict)


def describe(tree: ast.Module, name: str, package: bool = False) -> Module:
    """What a module defines, imports and assigns, also below `if` and `try`."""
    found = Module()
    local: dict[str, str] = {}
    for node in statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            origin = _origin(node, name, package)
            for alias in node.names:
                local[alias.asname or alias.name] = f"{origin}:{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                found.names[alias.asname or alias.name.partition(".")[0]] = alias.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.functions[node.name] = parameters(node)
        elif isinstance(node, ast.ClassDef):
            found.classes[node.name] = _class(node, name, local)
        else:
            found.names.update(dict.fromkeys(_assigned(node)))
    found.names.update(local)
    return found


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names in order; `*args` and `**kwargs` with their stars, so that they stand for no other name."""
    a = node.args
    names = [p.arg for p in (*a.posonlyargs, *a.args)]
    names += [f"*{a.vararg.arg}"] if a.vararg else []
    names += [p.arg for p in a.kwonlyargs]
    return names + ([f"**{a.kwarg.arg}"] if a.kwarg else [])


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _class(node: ast.ClassDef, module: str, local: dict[str, str]) -> Class:
    bases = [local.get(base, f"{module}:{base}") for base in map(ast.unparse, node.bases)]
    found = Class(bases)
    for item in statements(node.body):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(d) for d in item.decorator_list}
            is_property = any(d == "property" or d.endswith(("cached_property", ".setter")) for d in decorators)
            found.members[item.name] = None if is_property else parameters(item)
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found.fields.append(item.target.id)
            found.members[item.target.id] = None
        else:
            found.members.update(dict.fromkeys(_assigned(item)))
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and _is_self(inner.value):
            found.members.setdefault(inner.attr, None)
    return found


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body)
        else:
            yield node


def _assigned(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def _origin(node: ast.ImportFrom, module: str, package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (1 if package else 0)]
    return ".".join([*parts, *([node.module] if node.module else [])])
