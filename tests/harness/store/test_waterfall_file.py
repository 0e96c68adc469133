"""waterfall.json: read in its own version and the first one, and refused where it is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.schema.waterfall import VERSION
from innerloop.harness.store.waterfall_file import read, read_plain, write

FIRST_VERSION = Path(__file__).parents[2] / "golden" / "first_version" / "ladder" / "waterfall.json"


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Any]:
    """A waterfall of this version as plain data, from the first version's."""
    write(tmp_path, read(FIRST_VERSION))
    found: dict[str, Any] = json.loads((tmp_path / "waterfall.json").read_text())
    return found


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    waterfall = read(FIRST_VERSION)
    assert write(tmp_path, waterfall) == tmp_path / "waterfall.json"
    assert read(tmp_path) == read(tmp_path / "waterfall.json") == waterfall


def test_the_first_versions_limit_is_the_bound(tmp_path: Path) -> None:
    first, *others = read(FIRST_VERSION).rungs
    assert (first.name, first.kind) == ("bound", "bound")
    assert [(rung.name, rung.kind) for rung in others] == [(n, "layer") for n in ("core", "engine", "async", "http")]
    old = json.loads(FIRST_VERSION.read_text())
    assert [rung["ms_per_step"] for rung in old["rungs"]] == [rung.ms_per_step for rung in (first, *others)]


def test_a_newer_minor_versions_fields_stay_in_the_plain_document(tmp_path: Path, stored: dict[str, Any]) -> None:
    (tmp_path / "waterfall.json").write_text(json.dumps({**stored, "schema_version": "2.7", "later": 3}))
    assert read(tmp_path).schema_version == "2.7"
    assert read_plain(tmp_path)["later"] == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": "3.0"}, f"has schema version 3.0, but innerloop .* reads only versions 1 to {VERSION}"),
        ({"schema_version": None}, "is not the result of a run with --layers"),
        ({"kind": "run"}, "is not the result of a run with --layers"),
        ({"rungs": [{"name": "core"}]}, r"is incomplete: it lacks rungs\.0\.kind"),
        ({"status": "fine"}, "is incomplete: status"),
    ],
)
def test_what_is_no_waterfall_of_this_version_is_refused(
    tmp_path: Path, stored: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    (tmp_path / "waterfall.json").write_text(json.dumps({**stored, **changes}))
    with pytest.raises(Refused, match=words):
        read(tmp_path)


def test_a_folder_without_one_and_a_first_version_that_is_not_whole_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        read(tmp_path)
    old = json.loads(FIRST_VERSION.read_text())
    del old["rungs"]
    (tmp_path / "waterfall.json").write_text(json.dumps(old))
    with pytest.raises(Refused, match="is incomplete: it lacks rungs"):
        read(tmp_path)
