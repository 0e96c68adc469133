"""Environments are made once, whole or not at all, from a lock; all with the real uv and tiny wheels."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from innerloop.harness import environments
from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.environments import installer
from innerloop.harness.profiles.engines import EngineProfile
from innerloop.harness.store.folders import lock_file
from tests.harness.environments.conftest import left
from tests.harness.process import toys
from tests.real import ROOT
from tests.scripts import IMPORTED, interpreter
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.slow

# Started with: the engine's profile as JSON. Says one JSON line for each thing said, and a last one for the outcome.
CREATE = """
import json, sys
from innerloop.harness import environments
from innerloop.harness.profiles.engines import EngineProfile
from innerloop.harness.cli.signals import stop_signals
say = lambda text: print(json.dumps(text), flush=True)
with stop_signals() as held, held.released():
    made = environments.create(EngineProfile.model_validate_json(sys.argv[1]), "cpu", say=say)
print(json.dumps({"python": str(made.python)}))
"""


def start(engine: EngineProfile) -> subprocess.Popen[str]:
    """A process that creates the engine's environment."""
    return subprocess.Popen(
        [sys.executable, "-c", CREATE, engine.model_dump_json()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_created_environment_holds_what_the_lock_says(home: Path, lock: Path) -> None:
    made = environments.create(toys.engine(lock), "cpu")
    assert environments.packages(made.python) == {"toy": "1.0"}
    assert made.folder is not None
    assert made.folder.parent == home / "environments"
    assert (made.engine, made.device, made.version) == ("toy", "cpu", "1.0")
    assert made.python_version == platform.python_version()
    assert made.lock_hash == toys.sha256(lock)
    assert made.variables["TOY_QUIET"] == "1"


def test_a_created_environment_is_compiled_so_that_no_start_of_an_engine_does_it(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    made = environments.create(toys.engine(lock), "cpu")
    assert made.folder is not None
    assert list(made.folder.glob("lib/*/site-packages/toy/**/*.pyc"))


def test_the_name_is_made_of_engine_device_lock_and_python(home: Path, lock: Path) -> None:
    import hashlib

    minor = ".".join(platform.python_version().split(".")[:2])
    digest = hashlib.sha256(lock.read_bytes() + minor.encode()).hexdigest()[:12]
    assert environments.plan(toys.engine(lock), "cpu").folder.name == f"toy-cpu-{digest}"


def test_a_second_use_makes_nothing_and_counts_as_a_use(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = environments.create(toys.engine(lock), "cpu")
    assert first.folder is not None
    marker = first.folder / environments.MARKER
    os.utime(marker, (1e9, 1e9))
    monkeypatch.setattr(installer, "make_venv", lambda *_: pytest.fail("made again"))
    assert environments.create(toys.engine(lock), "cpu") == first
    assert marker.stat().st_mtime > 1e9


def test_another_lock_is_another_environment(home: Path, lock: Path, wheels: Path) -> None:
    first = environments.create(toys.engine(lock), "cpu")
    lock.write_text(f"toy==2.0 --hash=sha256:{toys.sha256(wheels / 'toy-2.0-py3-none-any.whl')}\n")
    second = environments.create(toys.engine(lock), "cpu")
    assert (first.version, second.version) == ("1.0", "2.0")
    assert len(left(home)) == 2


def test_recreate_makes_it_again(lock: Path) -> None:
    made = environments.create(toys.engine(lock), "cpu")
    assert made.folder is not None
    (made.folder / "stray").touch()
    again = environments.create(toys.engine(lock), "cpu", recreate=True)
    assert again.folder == made.folder
    assert not (made.folder / "stray").exists()


def test_where_it_cannot_be_made_again_the_one_that_was_there_stays(
    home: Path, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = environments.create(toys.engine(lock), "cpu")
    assert made.folder is not None
    (made.folder / "stray").touch()
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "none"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty-cache"))
    with pytest.raises(InstallFailed):
        environments.create(toys.engine(lock), "cpu", recreate=True)
    assert environments.existing(environments.plan(toys.engine(lock), "cpu")) == made
    assert (made.folder / "stray").exists()
    assert left(home) == [made.folder.name]


def test_one_that_was_to_be_made_again_by_a_killed_process_is_back(home: Path, lock: Path) -> None:
    made = environments.create(toys.engine(lock), "cpu")
    assert made.folder is not None
    before = made.folder.rename(made.folder.with_name(f".{made.folder.name}.before"))
    (made.folder / "bin").mkdir(parents=True)  # as far as the other came
    assert environments.create(toys.engine(lock), "cpu") == made
    assert left(home) == [made.folder.name]
    made.folder.rename(before)
    environments.remove(made.folder)
    assert left(home) == []


@pytest.mark.parametrize("damage", ["no marker", "marker cut short", "python gone"])
def test_a_half_made_environment_is_made_again(lock: Path, damage: str) -> None:
    made = environments.create(toys.engine(lock), "cpu")
    assert made.folder is not None
    (made.folder / "stray").touch()
    marker = made.folder / environments.MARKER
    if damage == "no marker":
        marker.unlink()
    elif damage == "marker cut short":
        marker.write_text(marker.read_text()[:10])
    else:
        made.python.unlink()
    again = environments.create(toys.engine(lock), "cpu")
    assert environments.packages(again.python) == {"toy": "1.0"}
    assert not (made.folder / "stray").exists()


def test_two_processes_at_once_make_it_once(home: Path, lock: Path) -> None:
    engine = toys.engine(lock)
    folder = environments.plan(engine, "cpu").folder
    folder.parent.mkdir(parents=True)
    with open(lock_file(folder), "w") as held:  # until both have seen that it is not there and wait for the lock
        fcntl.flock(held, fcntl.LOCK_EX)
        processes = [start(engine), start(engine)]
        for process in processes:
            assert process.stdout is not None
            assert "waiting for another process" in process.stdout.readline()
    answers = [process.communicate(timeout=PATIENCE_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    said = [json.loads(line) for out, _ in answers for line in out.splitlines()]
    assert len([text for text in said if isinstance(text, str) and text.startswith("creating ")]) == 1
    assert len({text["python"] for text in said if isinstance(text, dict)}) == 1
    assert left(home) == [folder.name]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_install_leaves_nothing_that_is_taken_as_whole(
    how: signal.Signals, home: Path, lock: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toys.engine(lock)
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.delenv("PIP_NO_INDEX")
    with toys.serving(wheels) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        index.go_on.clear()
        process = start(engine)
        assert index.downloading.wait(PATIENCE_S)
        installers = psutil.Process(process.pid).children(recursive=True)
        assert installers
        process.send_signal(how)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode != 0
        until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in installers))
        if how is signal.SIGKILL:
            assert left(home) == [environments.plan(engine, "cpu").folder.name]
            assert environments.existing(environments.plan(engine, "cpu")) is None
        else:
            assert left(home) == []
        index.go_on.set()
        made = environments.create(engine, "cpu")
    assert environments.packages(made.python) == {"toy": "1.0"}


def test_libraries_to_preload_are_named_if_they_are_there(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = toys.engine(lock, preload=["pyvenv.cfg", "lib/libabsent.so"])  # stands for a library
    made = environments.create(engine, "cpu")
    assert made.variables["LD_PRELOAD"] == f"{made.folder}/pyvenv.cfg"
    monkeypatch.setenv("LD_PRELOAD", "/own.so")
    assert environments.create(engine, "cpu").variables["LD_PRELOAD"] == f"{made.folder}/pyvenv.cfg:/own.so"
    assert "LD_PRELOAD" not in environments.create(toys.engine(lock), "cpu").variables


def test_libraries_in_a_folder_with_a_blank_are_preloaded_by_their_names(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "my cache"))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/own")
    made = environments.create(toys.engine(lock, preload=["pyvenv.cfg"]), "cpu")
    assert made.variables["LD_PRELOAD"] == "pyvenv.cfg"
    assert made.variables["LD_LIBRARY_PATH"] == f"{made.folder}:/own"


def test_an_environment_that_may_not_be_written_is_used(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = environments.create(toys.engine(lock), "cpu")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)  # as for a file of another user; root, as which tests run, may do all
    assert environments.create(toys.engine(lock), "cpu") == made


def test_an_engine_without_a_lock_is_refused(home: Path) -> None:
    with pytest.raises(Refused, match="cannot create an environment for toy"):
        environments.create(toys.engine(None), "cpu")
    with pytest.raises(Refused, match="cannot create an environment for toy"):
        environments.check(toys.engine(None), "cuda")


def test_a_python_that_cannot_be_had_is_refused_with_what_is_needed(
    home: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(Refused, match=r"needs Python 3\.99"):
        environments.create(toys.engine(lock, python=">=3.99,<4.0"), "cpu")
    assert left(home) == []


def test_a_folder_that_cannot_be_made_is_refused(lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "file"))
    with pytest.raises(Refused) as refused:
        environments.check(toys.engine(lock), "cpu")
    assert "INNERLOOP_HOME" in refused.value.details[0]


def test_without_uv_it_is_refused(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "find_uv", lambda: None)
    with pytest.raises(Refused, match="pip install uv"):
        environments.check(toys.engine(lock), "cpu")


def test_remove_takes_it_away_unless_it_is_in_use(home: Path, lock: Path) -> None:
    made = environments.create(toys.engine(lock), "cpu")
    assert made.folder is not None
    user = subprocess.Popen([str(made.python), "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(Refused, match=f"in use by process {user.pid}"):
            environments.remove(made.folder)
    finally:
        user.communicate(b"\n")
    environments.remove(made.folder)
    assert left(home) == []


def own(folder: Path, wheels: Path, *names: str) -> Path:
    """A user's own virtual environment with toy wheels in it."""
    uv = installer.require_uv()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    for name in names:
        toys.wheel(wheels, name)
    install = [uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python"), "--no-index"]
    subprocess.run([*install, "--find-links", str(wheels), *names], check=True)
    return folder / "bin" / "python"


def test_a_users_own_python_is_adopted(tmp_path: Path, wheels: Path) -> None:
    python = own(tmp_path / "own", wheels, "toy", "numpy")
    adopted = environments.adopt(python, toys.engine(None), "cpu")
    assert (adopted.python, adopted.folder, adopted.lock_hash, adopted.created) == (python, None, None, None)
    assert adopted.version == "2.0"
    assert adopted.variables == {"TOY_QUIET": "1"}
    assert environments.adopt(tmp_path / "own", toys.engine(None), "cpu") == adopted
    assert environments.check(toys.engine(None), "cpu", python) == adopted


def test_an_adopted_engine_may_have_another_name(tmp_path: Path, wheels: Path) -> None:
    python = own(tmp_path / "own", wheels, "toy", "numpy")
    engine = toys.engine(None, distribution="toy-cpu", alternatives=["toy"])
    assert environments.adopt(python, engine, "cpu").version == "2.0"


@pytest.mark.parametrize(("installed", "missing"), [(["numpy"], "toy"), (["toy"], "numpy")])
def test_an_adopted_python_must_have_the_engine_and_numpy(
    installed: list[str], missing: str, tmp_path: Path, wheels: Path
) -> None:
    python = own(tmp_path / "own", wheels, *installed)
    with pytest.raises(Refused, match=f"no distribution {missing};"):
        environments.adopt(python, toys.engine(None), "cpu")


def test_an_adopted_python_must_run(tmp_path: Path, home: Path) -> None:
    (tmp_path / "text").write_text("no program")
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(Refused, match="does not exist"):
        environments.adopt(tmp_path / "absent", toys.engine(None), "cpu")
    with pytest.raises(Refused, match="is not executable"):
        environments.adopt(tmp_path / "text", toys.engine(None), "cpu")
    with pytest.raises(Refused, match=r"is not a working Python \(exit code 3\)") as refused:
        environments.adopt(script, toys.engine(None), "cpu")
    assert refused.value.details == ("broken",)


def test_a_lock_that_another_process_holds_is_waited_for(lock: Path) -> None:
    engine = toys.engine(lock)
    folder = environments.plan(engine, "cpu").folder
    folder.parent.mkdir(parents=True)
    with open(lock_file(folder), "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = start(engine)
        assert process.stdout is not None
        assert "waiting" in process.stdout.readline()
        time.sleep(0.2)
        assert process.poll() is None
        assert not folder.exists()
    assert process.wait(PATIENCE_S) == 0
    process.communicate()


@pytest.mark.real
@pytest.mark.parametrize("name", ["vllm", "torch"])
def test_the_real_engines_install_on_a_cpu_and_import(name: str, tmp_path: Path) -> None:
    from innerloop.harness.profiles.engines import load_engine

    script = tmp_path / "asked.py"
    script.write_text("import sys, torch; print({*sys.argv[1:]} <= {*sys.modules}, torch.__version__)")
    told = interpreter(name).run(script, *IMPORTED[name])
    assert told.startswith("True ")
    assert told.strip().endswith("+cpu")
    made = environments.create(load_engine(name), "cpu")
    cuda = [
        package for package in environments.packages(made.python) if package.startswith(("nvidia", "cuda", "triton"))
    ]
    assert cuda == []
