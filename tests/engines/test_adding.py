"""What adding an engine touches, shown on the last one that was added: the product names it nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from innerloop.harness.profiles import names
from tests.imports import files
from tests.real import ROOT

ADDED = "openvino"
PRODUCT = ("engines", "harness", "profiles", "pyproject.toml", "setup.py")  # `innerloop` holds links to the first three
SUITES = ROOT / "profiles" / "suites"  # studies of several engines, which name those they compare
SHARED = "http"  # an engine's name that is also that of what all servers' adapters share
PAGE = ROOT / "docs" / "how-to" / "add-an-engine.md"


def product_files() -> list[Path]:
    found = [path for name in PRODUCT for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file()]
    return [path for path in found if "__pycache__" not in path.parts and SUITES not in path.parents]


def listed() -> set[str]:
    """The files that the page names, a folder by its name with a slash."""
    table = PAGE.read_text().partition("## In innerloop itself\n")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_the_page_lists_the_files_of_the_product_that_name_it():
    own = f"engines/{ADDED}/"
    there = {str(path.relative_to(ROOT)) for path in product_files()}
    naming = {name for name in there if ADDED in name or ADDED in (ROOT / name).read_text(errors="replace").lower()}
    assert {own if name.startswith(own) else name for name in naming} == listed()


@pytest.mark.parametrize("engine", sorted({*names("engines")} - {SHARED}))
def test_the_harness_and_what_adapters_share_import_no_engine(engine):
    """They find adapters by name: `engines/adapters.py`."""
    of = r"http\.attached" if engine == "http" else engine  # the rest of that folder is the layer, which adapters share
    package = re.compile(rf"^\s*(from|import) innerloop\.engines\.{of}\b", re.MULTILINE)
    own = ROOT / "engines" / engine
    found = [
        module
        for module, path in files(ROOT).items()
        if not path.resolve().is_relative_to(own) and package.search(path.read_text())
    ]
    assert found == []
