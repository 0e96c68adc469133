from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import session
from harness.errors import Refused
from harness.launcher import Limits


def test_a_folder_that_holds_something_is_refused(tmp_path):
    first = session.make_folder(tmp_path / "run")
    (first / "result.json").write_text("{}")
    with pytest.raises(Refused, match="is not empty"):
        session.make_folder(tmp_path / "run")


def test_the_default_folder_is_always_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec: Any = SimpleNamespace(**{part: SimpleNamespace(name=part) for part in ("engine", "model", "workload")})
    first = session.default_folder(spec)
    session.make_folder(first)
    assert first.parts[0] == "runs"
    assert session.default_folder(spec) != first


def test_an_empty_folder_that_the_user_made_is_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    assert session.make_folder(tmp_path / "mine") == tmp_path / "mine"


def test_a_refused_run_leaves_no_folder(tmp_path):
    made = session.make_folder(tmp_path / "run")
    session.remove_empty(made)
    assert not made.exists()


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(Refused, match="--out"):
            session.make_folder(out)


def test_ceilings_are_left_out_when_they_are_not_wanted(monkeypatch, tmp_path):
    def measured(*_: Any) -> Any:
        raise AssertionError("nothing was to be measured")

    monkeypatch.setattr("harness.ceilings.for_run", measured)
    nothing: Any = None
    prepared = session.Prepared(environment=cast("Any", SimpleNamespace()))
    options = session.Options(tmp_path, Limits(), ceilings="off")
    session.find_ceilings(nothing, nothing, prepared, options, print)
    assert prepared.ceilings is None
    assert prepared.no_ceilings is not None
    assert "--ceilings off" in prepared.no_ceilings


def test_a_trace_that_cannot_be_written_takes_nothing_from_the_run(run_folder, monkeypatch):
    folder = run_folder()

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    monkeypatch.setattr("harness.perfetto.put", full)
    session.write_trace(folder, {}, said.append)
    assert "could not be written" in said[0]
    assert not list(folder.glob("*perfetto*"))
    assert not list(folder.glob(".*perfetto*"))
