"""What every file of the checkout imports, read from its text: at the top, inside functions, for types alike."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

Graph = dict[str, set[str]]  # modules as "harness.spec.model", and those that each one imports, or names in them


def files(root: Path) -> dict[str, Path]:
    """Every file of harness/ and engines/ by its module."""
    found = [path for side in ("harness", "engines") for path in sorted((root / side).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in found}


@cache
def imported(text: str) -> set[str]:
    """What a file imports, by whole names: `from a.b import c` gives a.b.c, whether that is a module or not."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def graph(root: Path) -> Graph:
    """The imports among the files of harness/ and engines/."""
    modules = files(root)
    out: Graph = {}
    for module, path in modules.items():
        names = imported(path.read_text(encoding="utf-8"))
        ours = {name.removeprefix("innerloop.") for name in names if name.startswith("innerloop.")}
        out[module] = {name if name in modules else name.rpartition(".")[0] for name in ours} - {module}
    return out


def foreign(root: Path, side: str) -> dict[str, set[str]]:
    """Packages that are not ours, by the modules of one side that import them."""
    found = {name: imported(path.read_text(encoding="utf-8")) for name, path in files(root).items()}
    packages = {name: {package.partition(".")[0] for package in names} for name, names in found.items()}
    return {name: names - {"innerloop"} for name, names in packages.items() if name.partition(".")[0] == side}


def circles(imports: Graph) -> Graph:
    """The modules that import themselves by way of others: what is left once those at either end are taken away."""
    left = {module: set(targets) for module, targets in imports.items()}
    while True:
        used = set().union(*left.values())
        ends = {module for module, targets in left.items() if not targets & left.keys() or module not in used}
        if not ends:
            return left
        left = {module: targets - ends for module, targets in left.items() if module not in ends}
