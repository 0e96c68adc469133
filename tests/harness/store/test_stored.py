"""What a path holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from innerloop.harness import store
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import is_there
from innerloop.harness.store import stored
from tests.harness.conftest import SPEC

PASS = json.dumps({"spec": SPEC, "profile": {"kind": "kernels"}})


def make(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({}, "nothing"),
        ({"engine.log": ""}, "nothing"),
        ({"steps.parquet": ""}, "records"),
        ({"job.json": json.dumps({"spec": SPEC})}, "interrupted"),
        ({"job.json": "{", "steps.parquet": ""}, "interrupted"),
        ({"job.json": PASS, "steps.parquet": ""}, "pass"),
        ({"job.json": PASS, "result.json": ""}, "run"),
        ({"result.json": ""}, "run"),
        ({"result.json": "", "waterfall.json": ""}, "ladder"),
    ],
)
def test_a_folder_is_what_lies_in_it(tmp_path: Path, files: dict[str, str], kind: str) -> None:
    folder = make(tmp_path / "x", files)
    stored = store.open(folder)
    assert (stored.kind, stored.folder) == (kind, folder)
    assert isinstance(stored, store.StoredLadder if kind == "ladder" else store.StoredRun)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("result.json", "run"), ("copy.json", "run"), ("waterfall.json", "ladder"), ("none.json", "nothing")],
)
def test_a_file_is_what_its_name_says_or_a_result(tmp_path: Path, name: str, kind: str) -> None:
    folder = make(tmp_path / "x", {"result.json": "", "copy.json": ""})
    stored = store.open(folder / name)
    assert (stored.kind, stored.path, stored.folder) == (kind, folder / name, folder)


def test_the_run_of_a_files_folder_is_asked_for(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", {"job.json": json.dumps({"spec": SPEC}), "engine.log": ""})
    stored = store.open(folder / "engine.log")
    assert isinstance(stored, store.StoredRun)
    assert stored.in_folder() == store.StoredRun(folder, "interrupted")


def test_a_runs_tables_are_read_when_they_are_asked_for(run_folder: Callable[..., Path]) -> None:
    stored = store.open(run_folder())
    assert isinstance(stored, store.StoredRun)
    assert len(stored.tables().steps) == 50
    with pytest.raises(Refused, match="there is no result"):
        stored.result()


def test_a_ladder_is_read_by_its_folder_or_its_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", {"waterfall.json": "{}"})
    for path in (folder, folder / "waterfall.json"):
        stored = store.open(path)
        assert isinstance(stored, store.StoredLadder)
        with pytest.raises(Refused, match="is not the result of a run with --layers"):
            stored.document()


def test_a_folder_of_others_beside_runs_hides_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in /tmp, where some folders may not be looked into; root, as which tests run, may do all."""

    def look(path: Path) -> bool:
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return is_there(path)

    monkeypatch.setattr(stored, "is_there", look)
    (tmp_path / "a").mkdir()
    assert store.no_run(tmp_path).details == ()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "result.json").touch()
    (tmp_path / "c").mkdir()
    [hint] = store.no_run(tmp_path).details
    assert hint == f"it holds runs; list them with innerloop runs {tmp_path}"
