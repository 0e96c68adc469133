"""Where packages come from and how they are checked: indexes, hashes, the user's pip and uv."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from innerloop.harness import environments
from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.environments import build, installer
from innerloop.harness.environments.lock import entries
from innerloop.harness.profiles.engines import LOCKS
from tests.harness.environments.conftest import left
from tests.harness.process import toys

pytestmark = pytest.mark.slow


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
