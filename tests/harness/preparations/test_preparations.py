"""Folders that an engine needs of a model: made once, kept by content, and never half-made."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.engines.contract import Preparation
from innerloop.harness import preparations
from innerloop.harness.cli import slowly
from innerloop.harness.preparations import PreparationFailed, PreparedFolder, folder, prepare_all, shown
from innerloop.harness.store.folders import DiskFull
from tests.harness.preparations.toys import (
    ToyAdapter,
    checkpoint_in,
    copying,
    load_of,
    machine,
    own_environment,
    python,
    writing,
)
from tests.waiting import until


class Toy:
    """prepare(*preparations): what is made of them in a cache of the test's own. `ran`: the words of each command that
    was run; `said`: the lines that a user saw."""

    def __init__(self, room: Path) -> None:
        self.room, self.home, self.said = room, room / "home", list[str]()
        self.checkpoint, self.environment = checkpoint_in(room / "checkpoint"), own_environment()

    @property
    def ran(self) -> list[str]:
        log = self.room / "ran"
        return log.read_text().splitlines() if log.exists() else []

    def __call__(self, *wanted: Preparation, limit_s: float | None = None) -> dict[str, PreparedFolder]:
        load = load_of(self.checkpoint)
        return prepare_all(ToyAdapter(*wanted), load, self.environment, machine(), self.said.append, limit_s)

    def kept(self) -> list[str]:
        """The folders in the cache, half-made ones too."""
        root = self.home / "prepared"
        return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.exists() else []


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("innerloop.harness.preparations.key.packages", lambda python, variables: {"toy": "1.0"})
    return Toy(tmp_path)


def test_a_folder_is_made_by_its_command_and_found_the_next_time(prepare):
    first = prepare(writing(prepare.room))["model"]
    assert (first.path / "made").read_text() == "one{}"
    assert first.seconds > 0
    assert not first.cached
    assert prepare.said == [f"model for Toy prepared in {first.seconds:.1f} s"]
    assert prepare(writing(prepare.room)) == {"model": PreparedFolder(first.path, 0.0, True)}
    assert prepare.ran == ["one"]


def test_a_later_preparation_is_given_the_folder_of_an_earlier_one(prepare):
    made = prepare(writing(prepare.room), copying())
    assert (made["library"].path / "copied").read_text() == "one{}"
    other = prepare(writing(prepare.room, "two"), copying())
    assert (other["library"].path / "copied").read_text() == "two{}"


def test_an_engine_that_needs_nothing_is_not_even_asked_for_its_packages(prepare, monkeypatch):
    monkeypatch.setattr("innerloop.harness.preparations.key.packages", None)
    assert prepare() == {}
    assert not prepare.home.exists()


def test_what_is_kept_says_what_it_was_made_of_and_what_its_command_printed(prepare):
    kept = prepare(writing(prepare.room, size=3))["model"].path.parent
    assert kept.parent == preparations.prepared_root()
    assert kept.name.startswith("toy-model-")
    assert '"size": 3' in (kept / "preparation.json").read_text()
    assert (kept / "preparation.log").read_text() == "working on one\n"
    assert sorted(path.name for path in kept.iterdir()) == ["content", "preparation.json", "preparation.log"]


def test_a_failed_command_leaves_nothing_that_looks_prepared(prepare):
    broken = python("import sys; print('the disk of the moon is full'); sys.exit(3)")
    with pytest.raises(PreparationFailed, match=r"model for Toy could not be prepared: .* exit code 3") as raised:
        prepare(broken)
    assert "the disk of the moon is full" in raised.value.details
    assert prepare.kept() == []
    [log] = (prepare.home / "prepared").glob("*.log")
    assert raised.value.details[-1] == f"its output is in {log}"


def test_what_an_earlier_preparation_made_stays_when_a_later_one_fails(prepare):
    with pytest.raises(PreparationFailed, match="library for Toy"):
        prepare(writing(prepare.room), python("import sys; sys.exit('no')", "library"))
    prepare(writing(prepare.room))
    assert prepare.ran == ["one"]


def test_a_command_that_leaves_no_file_has_failed(prepare):
    with pytest.raises(PreparationFailed, match="wrote no file"):
        prepare(python("print('all is well')"))
    assert prepare.kept() == []


def test_a_command_that_a_signal_ends_is_told_by_its_name(prepare):
    with pytest.raises(PreparationFailed, match="killed by SIGSEGV"):
        prepare(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))


def test_an_interpreter_that_does_not_start_is_a_failure_with_the_guards_words(prepare):
    prepare.environment = replace(own_environment(), python=prepare.room / "python")
    with pytest.raises(PreparationFailed, match="/python could not be started: No such file or directory"):
        prepare(writing(prepare.room))


def test_a_command_may_not_take_longer_than_the_limit(prepare):
    with pytest.raises(PreparationFailed, match=r"took longer than 0\.3 s"):
        prepare(python("import time; time.sleep(60)"), limit_s=0.3)
    assert prepare.kept() == []


def test_what_takes_long_is_said_with_its_seconds(prepare, monkeypatch):
    monkeypatch.setattr(slowly, "FIRST_S", 0.2)
    monkeypatch.setattr(slowly, "EVERY_S", 0.3)
    prepare(python("import pathlib, sys, time; time.sleep(1.2); pathlib.Path(sys.argv[1], 'x').touch()"))
    first, *others, last = prepare.said
    assert re.match(r"preparing model for Toy: \d+ s \(once; its output goes to ", first)
    assert re.fullmatch(r"preparing model for Toy: \d+ s", others[0])
    saving = r"(preparing model for Toy|writing model for Toy to disk): \d+ s"  # the second where the disk is slow
    assert all(re.fullmatch(saving, line) for line in others)
    assert re.match(r"model for Toy prepared in \d", last)


def test_a_damaged_folder_is_made_again(prepare):
    made = prepare(writing(prepare.room))["model"].path
    (made / "made").write_text("cut")
    again = prepare(writing(prepare.room))["model"]
    assert not again.cached
    assert (again.path / "made").read_text() == "one{}"
    assert "is damaged (made has 3 bytes instead of 5); creating it again" in prepare.said[1]


def test_of_two_that_ask_at_once_one_makes_it_and_the_other_waits(prepare):
    go_on = prepare.room / "go on"
    waits = f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)"
    slow = f"import pathlib, sys, time\n{waits}\npathlib.Path(sys.argv[1], 'x').touch()"
    made: list[PreparedFolder] = []
    threads = [threading.Thread(target=lambda: made.append(prepare(python(slow))["model"])) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: any(line.startswith("waiting for another process") for line in prepare.said))
    go_on.touch()
    for thread in threads:
        thread.join()
    assert sorted(one.cached for one in made) == [False, True]
    assert made[0].path == made[1].path
    assert any(line.startswith("waiting for another process") for line in prepare.said)


def test_a_disk_that_is_full_is_said_as_such(prepare, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "sync_all", full)
    with pytest.raises(DiskFull, match="the disk filled up while writing toy-model"):
        prepare(writing(prepare.room))
    assert prepare.kept() == []


def test_a_plan_shows_the_lines_that_an_adapter_gives_or_else_the_command(prepare):
    told = Preparation("model", ("-c", "x"), {}, ("convert MODEL", "configure MODEL"))
    wanted = ToyAdapter(told, Preparation("library", ("-m", "toy", "{model}")))
    assert shown(wanted, load_of(prepare.checkpoint)) == ["convert MODEL", "configure MODEL", "-m toy {model}"]
    assert prepare.ran == []
