"""An engine's own arguments, read from its source without running it: their names, and what values they take."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from innerloop.harness.environments.environment import Environment

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
AS_BOOL = ("true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0")  # texts that pydantic takes for one
MOST_STEPS = 6  # from the name of a type to what it stands for: imports, and names for names


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an argument takes: values of `kinds` (of KINDS), `choices`, and None, for which the engine has a default."""

    kinds: tuple[str, ...] = ()
    choices: tuple[Any, ...] = ()

    def takes(self, value: Any) -> bool:
        """Texts that are numbers or truth values count as such, as pydantic converts them, and choices in any case and
        with - for _, as some engines read them."""
        return (
            value is None
            or any(_is(value, kind) for kind in self.kinds)
            or any(_plain(value) == _plain(choice) for choice in self.choices)
        )

    def __str__(self) -> str:
        told = [KINDS[kind] for kind in self.kinds]
        if self.choices:
            told.append(f"one of {', '.join(map(str, self.choices))}")
        return " or ".join(told)


def arguments_of(environment: Environment, where: str) -> Mapping[str, Accepted | None] | None:
    """The annotated fields of a class of the installed engine, `where` as in `Adapter.parameters`: of each what it
    takes, None where its annotation does not say. None instead: the class is not found, or takes fields from another.
    """
    path, _, name = where.partition(":")
    for folder in package_folders(environment):
        with suppress(OSError):
            changed_ns = (folder / path).stat().st_mtime_ns
            if (found := _fields(folder / path, name, folder, changed_ns)) is not None:
                return found
    return None


def package_folders(environment: Environment) -> Iterable[Path]:
    """Where an environment's packages lie: the user's own folders first."""
    yield from environment.sites
    prefix = environment.folder or Path(environment.python).parents[1]
    yield from sorted(prefix.glob("lib/python*/site-packages"))


@lru_cache(maxsize=16)
def _fields(path: Path, name: str, packages: Path, changed_ns: int) -> Mapping[str, Accepted | None] | None:
    """Kept until the file changes: an experiment asks for each of its cells."""
    tree = _tree(path)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef) and node.name == name and not node.bases:
            types, fields = Types(packages), [one for one in node.body if isinstance(one, ast.AnnAssign)]
            return {f.target.id: _checked(f, types, path) for f in fields if isinstance(f.target, ast.Name)}
    return None


def _checked(field: ast.AnnAssign, types: Types, module: Path) -> Accepted | None:
    """What a field takes. Choices count where the default is another class's, which checks them: a field that has its
    own may be handed on to code that knows more of them (vLLM's gdn_prefill_backend: auto)."""
    found = types.accepted(field.annotation, module)
    own = field.value is None or isinstance(field.value, ast.Constant)
    return None if found is None or (own and found.choices) else found


def _tree(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


class Types:
    """Annotations of the modules below a folder, and what the names in them stand for."""

    def __init__(self, packages: Path) -> None:
        self._packages = packages
        self._meanings: dict[Path, dict[str, list[ast.AST]]] = {}

    def accepted(self, node: ast.expr | None, module: Path, steps: int = MOST_STEPS) -> Accepted | None:
        """What an annotation says; None where it allows anything but numbers, truth values and choices."""
        if isinstance(node, ast.Constant) and node.value is None:
            return Accepted()
        if isinstance(node, ast.Name):
            return Accepted((node.id,)) if node.id in KINDS else self._named(node.id, module, steps - 1)
        if isinstance(node, ast.BinOp):
            return self._any_of((node.left, node.right), module, steps)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            choices = [part.value for part in parts if isinstance(part, ast.Constant)]
            if node.value.id == "Literal" and len(choices) == len(parts):
                return Accepted(choices=tuple(choices))
            if node.value.id in ("Optional", "Union"):
                return self._any_of(parts, module, steps)
        return None

    def _any_of(self, parts: Sequence[ast.expr], module: Path, steps: int) -> Accepted | None:
        each = [self.accepted(part, module, steps) for part in parts]
        known = [one for one in each if one is not None]
        if len(known) < len(each):
            return None
        return Accepted(tuple(k for one in known for k in one.kinds), tuple(c for one in known for c in one.choices))

    def _named(self, name: str, module: Path, steps: int) -> Accepted | None:
        """What a name stands for; None where it is not known, or a module gives it more than one meaning."""
        if module not in self._meanings:
            self._meanings[module] = meanings(_tree(module))
        found = self._meanings[module].get(name, [])
        if steps == 0 or len(found) != 1:
            return None
        [node] = found
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            return self.accepted(node.value, module, steps)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            source = self._packages.joinpath(*node.module.split("."))
            file = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
            return self._named(name, file, steps - 1)
        return None


def meanings(tree: ast.Module | None) -> dict[str, list[ast.AST]]:
    """By name all that gives it one anywhere in a module: its assignment or import, or another node."""
    found: dict[str, list[ast.AST]] = {}
    if tree is None:
        return found
    assigned = {id(target): node for node, target in _assignments(tree)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for one in node.names:
                known: ast.AST = node if one.asname in (None, one.name) else tree  # not by another name
                found.setdefault(one.asname or one.name, []).append(known)
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, []).append(assigned.get(id(node), node))
    return found


def _assignments(tree: ast.Module) -> Iterator[tuple[ast.Assign | ast.AnnAssign, ast.expr]]:
    """Of a module's own level."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign):
            yield node, node.target
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            yield node, node.targets[0]


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, str):
        return value.lower() in AS_BOOL if kind == "bool" else _is_number(value)
    if not isinstance(value, (int, float)):
        return False
    return kind == "float" or value in (0, 1) or (kind == "int" and value == value // 1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    return value.lower().replace("-", "_") if isinstance(value, str) else value
