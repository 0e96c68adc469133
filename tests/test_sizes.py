"""One idea a file, and few arguments: how large things may be."""

from __future__ import annotations

import ast

from tests.imports import files
from tests.real import ROOT

ROOMS = ("engines", "harness")
WRITTEN = {".py", ".js", ".css", ".html"}
MOST_LINES = 300
MOST_PARAMETERS = 7  # self counts
MOST_FLAT_FILES = 24  # in harness/ itself


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return len(named) + (given.vararg is not None) + (given.kwarg is not None)


def test_no_file_of_the_harness_and_the_engines_is_long() -> None:
    """Also of those that are not Python."""
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in WRITTEN]
    assert {path.suffix for path in paths} == WRITTEN
    assert {path.relative_to(ROOT).parts[0] for path in paths} == {*ROOMS}
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_few_files_lie_in_the_harness_itself() -> None:
    assert len(list((ROOT / "harness").glob("*.py"))) <= MOST_FLAT_FILES


def test_no_function_takes_many_parameters() -> None:
    found = {
        f"{module}, line {node.lineno}: {node.name}": parameters(node)
        for module, path in files(ROOT).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {function: count for function, count in found.items() if count > MOST_PARAMETERS} == {}
