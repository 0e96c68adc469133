"""Stored results of other versions, opened by the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import show, steps
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.store import result_file
from innerloop.harness.store.tables import convert
from tests.golden.cases import STORED

VERBS = {"show": show.main, "steps": steps.main}


@pytest.fixture
def stored(run_folder: Callable[..., Path], spec: dict[str, Any], reported: dict[str, Any]) -> Callable[..., Path]:
    """stored(name, **changes): the folder of a run whose result.json has these fields besides, or others."""

    def make(name: str = "newer", **changes: Any) -> Path:
        folder = run_folder(name)
        path = result_file.write(folder, build(Record(spec, convert(folder), reported=reported)))
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return folder

    return make


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_first_present_and_newer_minor_versions_open(
    stored: Callable[..., Path], verb: str, as_json: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    newer = stored(schema_version="2.9", carbon={"grams": 3.5})
    for folder in (STORED / "torch", stored("here"), newer):
        assert VERBS[verb]([str(folder), *as_json]) == EXIT_OK
        assert "llama-tiny" in capsys.readouterr().out


def test_a_field_of_a_newer_minor_version_is_shown_as_json(
    stored: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert show.main([str(stored(schema_version="2.9", carbon={"grams": 3.5})), "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["carbon"]) == ("2.9", {"grams": 3.5})


@pytest.mark.parametrize("verb", VERBS)
def test_a_major_version_without_a_migration_is_refused_and_its_innerloop_named(
    stored: Callable[..., Path], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stored(schema_version="3.0", innerloop_version="4.5.6")
    assert VERBS[verb]([str(folder)]) == EXIT_REFUSED
    said = " ".join(capsys.readouterr().err.split())
    assert "has schema version 3.0" in said
    assert "Read it with the version that wrote it (4.5.6)." in said
