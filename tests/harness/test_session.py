from __future__ import annotations

import pytest

from harness import session
from harness.errors import Refused


def test_a_run_never_writes_into_another_ones_folder(tmp_path):
    first = session.make_folder(tmp_path / "run")
    (first / "result.json").write_text("{}")
    second = session.make_folder(tmp_path / "run")
    assert first != second
    assert second.name == "run-2"


def test_an_empty_folder_that_the_user_made_is_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    assert session.make_folder(tmp_path / "mine") == tmp_path / "mine"


def test_a_refused_run_leaves_no_folder(tmp_path):
    made = session.make_folder(tmp_path / "run")
    session.remove_empty(made)
    assert not made.exists()


def test_out_of_names_is_refused(tmp_path):
    for suffix in ("", *(f"-{k}" for k in range(2, 100))):
        (tmp_path / f"run{suffix}").mkdir()
        (tmp_path / f"run{suffix}" / "x").touch()
    with pytest.raises(Refused, match="--out"):
        session.make_folder(tmp_path / "run")
