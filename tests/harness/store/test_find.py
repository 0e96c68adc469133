"""Runs by path, by name in runs/, and the last one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.store import find
from innerloop.harness.store import open as store_open
from innerloop.harness.store.find import find_one, find_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/ with two runs, of which the one whose name comes first was started last, and two other folders."""
    monkeypatch.chdir(tmp_path)
    root = Path("runs")
    for name, file, moment in (("b-first", "job.json", 100), ("a-second", "job.json", 200), ("z-notes", "x", 300)):
        (root / name).mkdir(parents=True)
        (root / name / file).write_text("{}")
        os.utime(root / name / file, (moment, moment))
    (root / ".hidden").mkdir()
    (root / "file").touch()
    return root


def test_a_run_is_found_by_path_and_by_name(runs: Path, tmp_path: Path) -> None:
    assert find_run("runs/b-first") == runs / "b-first"
    assert find_run("b-first") == runs / "b-first"
    assert find_run("b-first/job.json") == runs / "b-first" / "job.json"
    assert find_run(str(tmp_path / "runs" / "b-first")) == tmp_path / "runs" / "b-first"
    (tmp_path / "b-first").mkdir()
    assert find_run("b-first") == Path("b-first")


def test_last_is_the_run_that_was_started_last(runs: Path) -> None:
    assert find_run("last") == runs / "a-second"
    (runs / "a-layers").mkdir()
    (runs / "a-layers" / "waterfall.json").write_text("{}")  # written just now
    assert find_run("last") == runs / "a-layers"


def test_last_is_an_experiment_where_that_was_made_last(runs: Path) -> None:
    folder = Path("experiments") / "c-compare"
    for inside, moment in (("manifest.json", 250), ("runs/A-1/job.json", 260), ("runs/B-1/job.json", 270)):
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        (folder / inside).write_text("{}")
        os.utime(folder / inside, (moment, moment))
    assert find_run("last") == folder
    assert find_one("b-first") == runs / "b-first"
    with pytest.raises(
        Refused, match=r"last \(experiments/c-compare\) is an experiment, and this needs one run"
    ) as error:
        find_one("last")
    assert "experiments/c-compare/runs/A-1, experiments/c-compare/runs/B-1" in error.value.details[0]
    os.utime(runs / "b-first" / "job.json", (300, 300))
    assert find_run("last") == find_one("last") == runs / "b-first"


def test_what_is_not_there_is_refused_with_the_nearest(runs: Path) -> None:
    with pytest.raises(Refused, match=r"there is no run 'b-frist' here or in runs/; did you mean b-first\?"):
        find_run("b-frist")
    with pytest.raises(Refused, match="there is no file runs/none"):
        find_run("runs/none")


def test_without_runs_there_is_no_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="there is no run in runs/ and no experiment in experiments/ yet"):
        find_run("last")


def test_a_folder_of_another_user_takes_nothing_from_the_others(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "c-private").mkdir()

    def refusing(path: Path) -> Any:
        if path.name == "c-private":
            raise PermissionError(13, "Permission denied", str(path))
        return store_open(path)

    monkeypatch.setattr(find, "open", refusing)
    assert find_run("last") == runs / "a-second"


def test_an_experiment_of_another_user_takes_nothing_from_the_others(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path("experiments") / "c-private").mkdir(parents=True)
    is_file = Path.is_file

    def refusing(path: Path) -> bool:
        if path.parent.name == "c-private":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refusing)
    assert find_run("last") == runs / "a-second"


def test_a_home_folder_that_the_shell_did_not_write_out(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert find_run("~/runs/b-first") == Path.cwd() / "runs" / "b-first"


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_name_is_not_the_current_folder(blank: str) -> None:
    with pytest.raises(Refused, match="is blank"):
        find_run(blank)
