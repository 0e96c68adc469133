"""The names of an engine's own arguments, read from its source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from innerloop.harness.environments.environment import Environment


def argument_names(environment: Environment, where: str) -> frozenset[str] | None:
    """The annotated fields of a class of the installed engine; `where` as in `Adapter.parameters`. None: not found, or
    of a class that takes some from another one."""
    path, _, name = where.partition(":")
    for folder in package_folders(environment):
        try:
            tree = ast.parse((folder / path).read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name and not node.bases:
                fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
                return frozenset(target.id for target in fields if isinstance(target, ast.Name))
    return None


def package_folders(environment: Environment) -> Iterable[Path]:
    """Where an environment's packages lie: the user's own folders first."""
    yield from environment.sites
    prefix = environment.folder or Path(environment.python).parents[1]
    yield from sorted(prefix.glob("lib/python*/site-packages"))
