"""`innerloop environments` lists, creates and removes, and says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from innerloop.harness import environments
from innerloop.harness.environments.__main__ import main
from innerloop.harness.environments.folders import locked
from innerloop.harness.environments.listing import disk_bytes
from innerloop.harness.profiles import engines
from innerloop.harness.profiles.engines import EngineProfile
from innerloop.harness.store.folders import lock_file
from tests.harness.process import toys
from tests.real import ROOT


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProfile]:
    """The only engine there is; it can be installed."""
    for name in os.environ:
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    wheel = toys.wheel(tmp_path / "wheels", "toy")
    lock = tmp_path / "toy.txt"
    lock.write_text(f"toy==1.0 --hash=sha256:{toys.sha256(wheel)}\n")
    engine = toys.engine(lock)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "toy.yaml").write_text(engine.model_dump_json())
    monkeypatch.setattr(engines, "FOLDER", tmp_path / "profiles")
    engines.load_engine.cache_clear()
    yield engine
    engines.load_engine.cache_clear()


def add_to_lock(toy: EngineProfile, text: str) -> None:
    lock = Path(str(toy.environments["cpu"].lock))
    lock.write_text(lock.read_text() + text)


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "environments"
    environments: list[dict[str, object]] = found["environments"]
    return environments


def test_without_an_index_none_is_removed_to_be_created_anew(
    toy: EngineProfile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", "toy"]) == 0
    monkeypatch.delenv("PIP_FIND_LINKS")
    before = listed(capsys)
    assert main(["create", "toy", "--recreate"]) == 2
    assert "toy: innerloop cannot create its environment" in capsys.readouterr().err
    assert listed(capsys) == before
    assert main(["create", "toy"]) == 0  # it is there


def test_what_a_killed_process_left_that_made_one_anew_is_found(
    toy: EngineProfile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where none can be created, and by who only looks; not while a living process makes it."""
    assert main(["create", "toy"]) == 0
    monkeypatch.delenv("PIP_FIND_LINKS")
    [ready] = listed(capsys)
    folder = Path(str(ready["folder"]))
    before = folder.with_name(f".{folder.name}.before")
    folder.rename(before)
    with locked(folder, None):
        assert listed(capsys) == []
    assert listed(capsys) == [ready]
    folder.rename(before)
    (folder / "bin").mkdir(parents=True)  # as far as the other came
    assert main(["create", "toy"]) == 0
    assert [one["state"] for one in listed(capsys)] == ["ready"]
    (before / "bin").mkdir(parents=True)  # killed while it removed the one before
    assert [one["state"] for one in listed(capsys)] == ["ready"]
    assert not before.exists()


def test_create_list_and_remove(toy: EngineProfile, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "toy"]) == 0
    assert "ready: Toy 1.0" in capsys.readouterr().out
    [one] = listed(capsys)
    assert (one["engine"], one["device"], one["state"], one["version"]) == ("toy", "cpu", "ready", "1.0")
    assert one["bytes"] == disk_bytes(Path(str(one["folder"]))) > 1000
    assert one["created"]
    assert one["last_used"]
    assert main(["list"]) == 0
    assert str(one["name"]) in capsys.readouterr().out
    assert main(["remove", "toy"]) == 0
    assert listed(capsys) == []
    assert main(["remove", "toy"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_trial_looks_every_package_up_and_makes_nothing(
    toy: EngineProfile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", "toy", "--dry-run"]) == 0
    words = capsys.readouterr().out
    assert "toy==1.0" in words
    assert "1 package, all available" in words
    assert "hashes are verified when the packages are installed" in words
    assert list(environments.environments_folder().iterdir()) == []
    add_to_lock(toy, f"no-such-toy==1.0 --hash=sha256:{'0' * 64}\n")
    assert main(["create", "toy", "--dry-run"]) == 3
    assert list(environments.environments_folder().iterdir()) == []


@pytest.mark.parametrize("words", [["create", "toy", "--dry-run"], ["create", "toy"], ["list"]])
def test_what_a_killed_trial_left_goes_with_the_next_call(toy: EngineProfile, words: list[str]) -> None:
    """Not that of a process that lives."""
    root = environments.environments_folder()
    root.mkdir(parents=True)
    killed, before, living = (root / f".toy-cpu-{number}.trial-{number}" for number in "123")
    for trial in (killed, living):
        (trial / "bin").mkdir(parents=True)
    for trial in (killed, before):
        lock_file(trial).touch()
    with locked(living, None):
        assert main(words) == 0
        left = [path.name for path in root.iterdir() if ".trial-" in path.name]
    assert sorted(left) == sorted((living.name, lock_file(living).name))


def test_list_tells_states_apart(toy: EngineProfile, capsys: pytest.CaptureFixture[str]) -> None:
    made = environments.create(toy, "cpu")
    assert made.folder is not None
    add_to_lock(toy, "\n")
    assert [one["state"] for one in listed(capsys)] == ["outdated"]
    made.python.unlink()
    assert [one["state"] for one in listed(capsys)] == ["broken"]
    (made.folder / environments.MARKER).unlink()
    assert [one["state"] for one in listed(capsys)] == ["unfinished"]


def test_remove_can_be_for_one_kind_of_device_or_for_all(
    toy: EngineProfile, capsys: pytest.CaptureFixture[str]
) -> None:
    root = environments.environments_folder()
    for name in ("toy-cpu-0123456789ab", "toy-cuda-0123456789ab", "gone-cpu-0123456789ab"):
        (root / name).mkdir(parents=True)
    assert main(["remove", "toy", "--device", "cuda"]) == 0
    assert [one["name"] for one in listed(capsys)] == ["gone-cpu-0123456789ab", "toy-cpu-0123456789ab"]
    assert main(["remove", "--all"]) == 0
    assert listed(capsys) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "tyo"], "did you mean 'toy'"),
        (["remove", "tyo"], "did you mean 'toy'"),
        (["create", "toy", "--device", "cuda"], "cannot create an environment"),
        (["remove"], "--all"),
        (["remove", "toy", "--all"], "--all"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], words: str, toy: EngineProfile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert out == ""


def test_a_failed_install_shows_its_words_and_exits_with_3(
    toy: EngineProfile, capsys: pytest.CaptureFixture[str]
) -> None:
    add_to_lock(toy, f"no-such-toy==1.0 --hash=sha256:{'0' * 64}\n")
    assert main(["create", "toy"]) == 3
    assert "no-such-toy" in capsys.readouterr().err


def test_the_same_file_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    single = disk_bytes(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    assert disk_bytes(tmp_path) == single >= 1 << 20


@pytest.mark.parametrize("module", ["environments.__main__", "ceilings.__main__", "doctor"])
def test_help_has_examples_and_loads_nothing_heavy(module: str) -> None:
    script = (
        f"import sys\nfrom harness.{module} import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*sorted({'numpy', 'pydantic', 'rich', 'yaml', 'psutil', 'pyarrow'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout
    assert f"innerloop {module.partition('.')[0]}" in done.stdout
    assert done.stderr.strip() == ""
