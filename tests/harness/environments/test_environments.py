"""Environments are made once, whole or not at all, from a lock; all with the real uv and tiny wheels."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from innerloop.harness import environments
from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.environments import build, installer
from innerloop.harness.environments.lock import entries
from innerloop.harness.profiles.engines import LOCKS, EngineProfile
from innerloop.harness.store.folders import lock_file
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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and no configuration of this machine's pip or uv."""
    for name in os.environ:
        if name.startswith(("PIP_", "UV_")) or name in ("PYTHONPATH", "LD_PRELOAD"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return tmp_path / "home"


@pytest.fixture
def wheels(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheels toy 1.0 and 2.0, which pip is told to use and nothing else."""
    folder = tmp_path / "wheels"
    toys.wheel(folder, "toy", "1.0")
    toys.wheel(folder, "toy", "2.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.fixture
def lock(tmp_path: Path, wheels: Path) -> Path:
    path = tmp_path / "toy-cpu.txt"
    path.write_text(f"toy==1.0 \\\n    --hash=sha256:{toys.sha256(wheels / 'toy-1.0-py3-none-any.whl')}\n")
    return path


def left(home: Path) -> list[str]:
    """What lies in the folder of environments, but for lock files."""
    root = home / "environments"
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock") if root.is_dir() else []


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


def test_a_failed_install_shows_the_installers_words_and_leaves_nothing(home: Path, lock: Path) -> None:
    lock.write_text(f"{lock.read_text()}no-such-toy==3.1 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(InstallFailed) as failed:
        environments.create(toys.engine(lock), "cpu")
    assert "no-such-toy" in "\n".join(failed.value.details)
    assert left(home) == []


def test_a_package_with_another_hash_is_not_installed(home: Path, lock: Path) -> None:
    lock.write_text(f"toy==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(InstallFailed) as failed:
        environments.create(toys.engine(lock), "cpu")
    assert "hash" in "\n".join(failed.value.details).lower()
    assert left(home) == []


def test_a_users_uv_toml_does_not_turn_hashes_off(
    home: Path, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_NO_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "uv").mkdir(parents=True)
    (tmp_path / "config" / "uv" / "uv.toml").write_text("[pip]\nverify-hashes = false\nrequire-hashes = false\n")
    lock.write_text(f"toy==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(InstallFailed) as failed:
        environments.create(toys.engine(lock), "cpu")
    assert "hash" in "\n".join(failed.value.details).lower()
    assert left(home) == []


@pytest.mark.parametrize("place", ["target", "prefix"])
def test_where_a_users_uv_toml_puts_packages_elsewhere_that_is_said(
    place: str, home: Path, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_NO_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "uv").mkdir(parents=True)
    (tmp_path / "config" / "uv" / "uv.toml").write_text(f'[pip]\n{place} = "{tmp_path / "elsewhere"}"\n')
    with pytest.raises(InstallFailed, match="but toy is missing") as failed:
        environments.create(toys.engine(lock), "cpu")
    assert "if uv.toml has target or prefix, take them out" in failed.value.details[0]
    assert left(home) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"toy==1.0\n", "it lists no real-toy"),
        (b"", "its last line is cut short"),
        (b"# nothing\n", "it lists no packages"),
        (b"real-toy==1.0", "its last line is cut short"),
        (b"real-toy==1.0 \\\n", "its last line is cut short"),
        (b"real-toy==1.0 \\\n    --hash=sha256:" + b"0" * 63 + b"\n", "a hash of real-toy==1.0 is damaged"),
        (b"\x93\xff\x00\x01\n", "damaged"),
        (b"-e /tmp/somewhere\n", "line '-e /tmp/somewhere' cannot be parsed"),
    ],
)
def test_a_damaged_lock_is_refused_before_anything_is_installed(
    content: bytes, words: str, home: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.write_bytes(content)
    monkeypatch.setattr(installer, "make_venv", None)
    with pytest.raises(Refused, match=words):
        environments.create(toys.engine(lock, distribution="real-toy"), "cpu")
    with pytest.raises(Refused, match=words):
        build.look_up(toys.engine(lock, distribution="real-toy"), "cpu")
    assert left(home) == []


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_package_of_a_shipped_lock_has_a_hash(path: Path) -> None:
    found = entries(path.read_text())
    assert len(found) > 1
    assert [name for name, hashes in found.items() if not hashes] == []


def test_torchs_cpu_build_is_the_same_in_every_lock_with_a_hash_for_each_python() -> None:
    """PyTorch's index has one wheel for each of Python 3.11 to 3.14 on x86-64."""
    torch = (LOCKS / "cpu.torch").read_text()
    assert entries(torch) == {"torch": 4}
    for name in ("torch", "vllm", "sglang"):
        assert (LOCKS / f"{name}-cpu.txt").read_text().startswith(torch), name


def test_a_foreign_build_of_torch_is_not_installed(home: Path, lock: Path, wheels: Path) -> None:
    """It has the right name and number, lies where pip is configured to look, and has another hash."""
    toys.wheel(wheels, "torch", "2.13.0+cpu")
    lock.write_text((LOCKS / "cpu.torch").read_text())
    with pytest.raises(InstallFailed) as failed:
        environments.create(toys.engine(lock, distribution="torch"), "cpu")
    assert "hash mismatch" in "\n".join(failed.value.details).lower()
    assert left(home) == []


def test_torchs_cpu_build_is_looked_for_twice_and_both_failures_are_told(
    home: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("UV_OFFLINE", "1")
    lock.write_text("torch==2.13.0+cpu\n")
    with pytest.raises(InstallFailed) as failed:
        environments.create(toys.engine(lock, distribution="torch"), "cpu")
    words = list(failed.value.details)
    first, second = words.index("from the configured indexes:"), words.index("with --torch-backend cpu:")
    assert any("torch" in line for line in words[first + 1 : second])
    assert any("torch" in line for line in words[second + 1 :])
    assert left(home) == []


def test_torchs_index_is_not_asked_where_pip_is_told_to_use_no_index(lock: Path) -> None:
    lock.write_text("torch==2.13.0+cpu\n")
    with pytest.raises(InstallFailed) as failed:
        environments.create(toys.engine(lock, distribution="torch"), "cpu")
    assert "with --torch-backend cpu:" not in failed.value.details


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


def test_packages_come_from_where_pip_is_configured_to_look(
    lock: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name)
    with toys.serving(wheels) as index:
        file = tmp_path / "pip.conf"
        file.write_text(f"[global]\nindex-url = {index.url}\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
        made = environments.create(toys.engine(lock), "cpu")
        assert made.version == "1.0"
        assert "/files/toy-1.0-py3-none-any.whl" in index.asked


def test_the_best_version_of_all_indexes_is_taken_also_where_one_of_them_is_missing(
    lock: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name)
    toys.wheel(tmp_path / "old", "toy", "0.9")
    with toys.serving(tmp_path / "old") as old, toys.serving(wheels) as new:
        monkeypatch.setenv("PIP_INDEX_URL", new.url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{old.url} file://{tmp_path}/nowhere/simple")
        assert environments.create(toys.engine(lock), "cpu").version == "1.0"


def test_a_users_pythonpath_and_uv_settings_do_not_change_what_is_installed(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("toy==2.0\n")
    toys.wheel(tmp_path / "shadow", "toy", "7.0")
    shutil.unpack_archive(tmp_path / "shadow" / "toy-7.0-py3-none-any.whl", tmp_path / "shadow", "zip")
    monkeypatch.setenv("UV_CONSTRAINT", str(constraints))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shadow"))
    made = environments.create(toys.engine(lock), "cpu")
    assert made.version == "1.0"
    assert environments.packages(made.python, made.variables) == {"toy": "1.0"}
    ask = [str(made.python), "-c", "import toy; print(toy.__version__)"]
    worker = subprocess.run(ask, env={**os.environ, **made.variables}, capture_output=True, text=True, check=True)
    assert worker.stdout.strip() == "1.0"


def test_who_asks_uv_for_no_bytecode_gets_none(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "0")
    made = environments.create(toys.engine(lock), "cpu")
    assert made.folder is not None
    assert not list(made.folder.glob("lib/*/site-packages/toy/**/*.pyc"))
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "")  # which uv would refuse
    assert installer.environment_of_uv()["UV_COMPILE_BYTECODE"] == "1"


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
    environments.check(toys.engine(None), "cpu", python)


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
