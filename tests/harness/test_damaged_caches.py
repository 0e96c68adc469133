"""What lies damaged in a cache, or belongs to somebody else, is left out or told; the rest is listed all the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from innerloop.harness.__main__ import entry

Damage = Callable[[Path], object]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("damage", [lambda path: path.write_text("[" * 100_000), os.mkfifo, os.mkdir])
@pytest.mark.parametrize(
    ("verb", "file"),
    [
        ("environments", "registered/own.json"),
        ("environments", "environments/torch-cpu-0123/.complete"),
        ("checkpoints", "checkpoints/some/checkpoint.json"),
        ("ceilings", "ceilings/cpu-some.json"),
    ],
)
def test_a_damaged_file_ends_no_list(verb: str, file: str, damage: Damage, home: Path) -> None:
    (home / file).parent.mkdir(parents=True)
    damage(home / file)
    assert entry(verb)(["list"]) == 0


def test_a_record_of_other_kinds_is_no_whole_environment(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = home / "environments" / "torch-cpu-0123"
    folder.mkdir(parents=True)
    (folder / ".complete").write_text(json.dumps({"created": 5, "version": [], "python_version": {}, "lock_hash": 1}))
    assert entry("environments")(["list"]) == 0
    assert "unfinished" in capsys.readouterr().out


def test_a_bundles_script_that_is_no_file_is_refused_and_not_waited_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(home / "env.sh")
    words = ["register", "own", "--engine", "torch", "--python", "python3", "--bundle", str(home)]
    assert entry("environments")(words) == 2
    assert "env.sh is not a regular file" in capsys.readouterr().err
