"""What an installed distribution is called: by two lines of its metadata, or by a parser where they are unusual."""

from __future__ import annotations

import ast
from importlib.metadata import PathDistribution, distributions
from pathlib import Path

import pytest

from innerloop.engines.worker import installed
from innerloop.engines.worker.installed import name_and_version

USUAL = "Metadata-Version: 2.4\nName: one\nVersion: 1.2\n"


@pytest.mark.parametrize(
    "text",
    [
        USUAL,
        USUAL.replace("\n", "\r\n"),
        "Metadata-Version: 2.4\nVersion:   1.2 \nSummary: a\n Name: two\nName: one\n\nName: three\nVersion: 3\n",
        "Metadata-Version: 2.4\nname:one\nVERSION: 1.2\n\nName: three\nVersion: 3\n",
        "Metadata-Version: 2.4\nSummary: a\u2028Version: 9\x0cName: two\nName: one\nVersion: 1.2\n",
    ],
    ids=["usual", "line ends", "other names below", "other spelling", "other line ends"],
)
@pytest.mark.parametrize("file", ["one-1.2.dist-info/METADATA", "one.egg-info/PKG-INFO"])
def test_its_headers_tell_its_name_and_version(text: str, file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_bytes(text.encode())
    assert name_and_version(PathDistribution(path.parent)) == ("one", "1.2")


def test_a_folded_line_is_the_parsers(tmp_path: Path) -> None:
    (tmp_path / "METADATA").write_text("Metadata-Version: 2.4\nName: \n one\nVersion: 1.2\n")
    name, version = name_and_version(PathDistribution(tmp_path))
    assert (name.strip(), version) == ("one", "1.2")


def test_a_folder_without_metadata_has_no_name(tmp_path: Path) -> None:
    assert name_and_version(PathDistribution(tmp_path))[0] == ""


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(installed.__file__).read_text(), feature_version=(3, 8))
    named = [one.module for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
    assert set(named) <= {"__future__", "importlib.metadata"}
    assert not [one for one in ast.walk(tree) if isinstance(one, ast.Import)]


def test_of_all_that_is_installed_here_a_parser_says_the_same() -> None:
    found = [(name_and_version(one), (one.metadata["Name"], one.version)) for one in distributions()]
    assert len(found) > 20
    assert not [(short, whole) for short, whole in found if short != whole]
