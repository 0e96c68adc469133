"""result.json: written whole, read again, and refused where it is not one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.schema.result import Result
from innerloop.harness.store.documents import plain, write_document
from innerloop.harness.store.result_file import read, read_plain, write
from innerloop.harness.store.tables import Tables


@pytest.fixture
def made(spec: dict[str, Any], reported: dict[str, Any], offline_tables: Tables) -> Result:
    return build(Record(spec=spec, workload_hash="abc", tables=offline_tables, reported=reported))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan"), np.array([1.0, np.nan])])
def test_json_never_holds_what_is_no_number(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "document.json"
    write_document(path, {"value": {"deep": [value]}})
    deep = json.loads(path.read_text(), parse_constant=pytest.fail)["value"]["deep"][0]
    assert deep in (None, [1.0, None])


def test_what_json_has_no_type_for_becomes_one_that_it_has() -> None:
    made = plain({1: (np.int64(3), np.float32(0.5), np.bool_(True), Path("a/b"), {"x"})})
    assert made == {"1": [3, 0.5, True, "a/b", ["x"]]}
    assert [type(item) for item in made["1"][:3]] == [int, float, bool]


def test_writing_replaces_the_file_whole(made: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, made)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("innerloop.harness.store.atomic.replace_file", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, replace(made, status="failed"))
    assert read(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not an innerloop result"),
        ('{"name": "other tool"}', "is not an innerloop result"),
        ('{"schema_version": "1", "status": "ok", "spec": {}}', "is not an innerloop result"),
        ('{"schema_version": "2.0"}', "is not an innerloop result"),
        ('{"schema_version": "3.0", "status": "ok", "spec": {}}', "has schema version 3.0, but innerloop"),
        ('{"schema_version": 0, "status": "ok", "spec": {}}', "has schema version 0, but innerloop"),
        ('{"schema_version": 1, "status": "ok", "spec": {}}', "is incomplete: it lacks reasons"),
        ('{"schema_version": "2.0", "status": "ok", "spec": {}}', "is incomplete: it lacks batch, checkpoint, counts"),
        ('{"schema_version": "2.0", "status": "fine", "spec": []}', "status: Input should be 'ok'"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_file_that_is_no_result_of_this_version_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(Refused, match=words):
        read(tmp_path)


def test_a_newer_result_names_the_version_that_wrote_it(tmp_path: Path) -> None:
    newer = {"schema_version": "9.1", "status": "ok", "spec": {}, "innerloop_version": "7.0"}
    (tmp_path / "result.json").write_text(json.dumps(newer))
    with pytest.raises(Refused) as caught:
        read(tmp_path)
    assert "7.0" in caught.value.details[0]


def test_a_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"there is no result\.json in"):
        read(tmp_path)
    with pytest.raises(Refused, match="there is no file"):
        read(tmp_path / "nothing.json")


def test_a_newer_minor_version_is_read_and_its_fields_are_kept_in_the_plain_document(
    made: Result, tmp_path: Path
) -> None:
    path = write(tmp_path, made)
    newer = json.loads(path.read_text())
    newer |= {"schema_version": "2.7", "carbon_g": 3.5, "counts": {**newer["counts"], "dropped": 1}}
    path.write_text(json.dumps(newer))
    assert read(tmp_path) == replace(made, schema_version="2.7")
    assert read_plain(tmp_path) == newer


def test_what_an_older_minor_version_lacks_has_its_default(made: Result, tmp_path: Path) -> None:
    path = write(tmp_path, made)
    older = json.loads(path.read_text())
    for name in ("client", "profiling", "kernels", "id", "key"):
        del older[name]
    path.write_text(json.dumps(older))
    assert read(tmp_path) == replace(made, id=None, key=None)
