"""A worker's temporary folder has room for the names of sockets."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from innerloop.engines import temp_folder
from innerloop.harness.process import guard
from innerloop.harness.process.guard import remove_folder
from innerloop.harness.process.launcher import Worker, environment
from innerloop.harness.process.temp_folder import NAMES_BYTES, OWN_BYTES, own_folder, remove_left
from tests.waiting import until


def test_a_short_folder_of_the_users_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/scratch")
    monkeypatch.setenv("TMPDIR", "/scratch")
    assert environment({})["TMPDIR"] == "/scratch"


def test_in_place_of_a_long_one_a_worker_gets_one_in_which_a_socket_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("node" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    folder = environment({})["TMPDIR"]
    assert folder != str(long)
    own = own_folder({"TMPDIR": folder}, "0123456789abcdef")
    assert own is not None
    assert len(str(own)) == len(folder) + OWN_BYTES
    own.mkdir()
    path = own / ("x" * (NAMES_BYTES - 1))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    remove_folder(str(own))
    assert not own.exists()


def test_where_no_folder_can_be_written_a_worker_is_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert "TMPDIR" not in environment({})
    assert own_folder({}, "0123456789abcdef") is None


@pytest.mark.parametrize("killed", [None, "guard", "second", "worker"])
def test_temporary_files_of_a_worker_go_with_it(
    killed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ends; none of them is in the user's own folder, and a run's record names that one."""
    usual = tmp_path / "usual"
    usual.mkdir()
    script = tmp_path / "engine.sh"
    script.write_text(
        f'#!/bin/sh\nmkdir "${guard.TEMP}/deep" && echo x > "${guard.TEMP}/deep/file"\n'
        f'echo "${guard.TEMP}" > begun\n{"sleep 600" if killed else ""}\n'
    )
    script.chmod(0o755)
    (tmp_path / "job.json").write_text("{}")
    worker = Worker(script, tmp_path / "job.json", tmp_path / "engine.log", {"TMPDIR": str(usual)})
    try:
        until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text().endswith("\n"))
        own = Path((tmp_path / "begun").read_text().strip())
        assert own.parent == usual
        if killed:
            first = psutil.Process(worker.guard_pid)
            [second] = first.children()
            [process] = second.children()
            assert (own / "deep" / "file").exists()
            {"guard": first, "second": second, "worker": process}[killed].kill()
        if killed != "guard":
            until(lambda: not own.exists())
    finally:
        worker.close(None)
    assert not list(usual.iterdir())


def test_a_folder_that_was_there_is_not_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.TEMP, str(tmp_path))
    assert guard.make_temp_folder() is None
    assert guard.TEMP not in os.environ  # which the worker gets
    monkeypatch.setenv(guard.TEMP, str(tmp_path / "own"))
    assert guard.make_temp_folder() == str(tmp_path / "own")


def test_a_worker_uses_its_own_folder_and_keeps_the_caches_of_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("USER", "a/b")
    monkeypatch.setenv("LOGNAME", "a/b")
    for name in temp_folder.CACHES:
        monkeypatch.setenv(name, "as it was")  # so that it is so again
        monkeypatch.delenv(name)
    monkeypatch.setenv("QUACK_CACHE_DIR", "/mine")
    assert temp_folder.VARIABLE == guard.TEMP
    monkeypatch.setenv(temp_folder.VARIABLE, str(tmp_path / "none"))
    temp_folder.use_own_temp_folder()
    assert tempfile.gettempdir() == str(tmp_path)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv(temp_folder.VARIABLE, str(own))
    temp_folder.use_own_temp_folder()
    assert tempfile.gettempdir() == str(own)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "torchinductor_a_b")
    assert os.environ["CUTE_DSL_CACHE_DIR"] == str(tmp_path / "a_b" / "cutlass_python_cache")
    assert os.environ["QUACK_CACHE_DIR"] == "/mine"


@pytest.fixture
def headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Has this process take a worker's own folder, of an interpreter that has torch; where its headers lie then."""

    def take() -> Path:
        (own := tmp_path / "own").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setenv(temp_folder.VARIABLE, str(own))
        monkeypatch.setenv("USER", "me")
        monkeypatch.setenv("LOGNAME", "me")
        for name in (*temp_folder.CACHES, *temp_folder.VOCABULARIES):
            monkeypatch.setenv(name, "/mine")  # torch's headers do not follow it
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "torch")
        temp_folder.use_own_temp_folder()
        return own / "torchinductor_me" / "precompiled_headers"

    return take


def test_torchs_compiled_headers_stay_where_they_were_whole(tmp_path: Path, headers: Callable[[], Path]) -> None:
    kept = tmp_path / "torchinductor_me" / "precompiled_headers"
    (kept / "locks").mkdir(parents=True)
    held = {
        "whole": b"gpch+014 of GCC 12",
        "cut": b"gpcWrite and more",
        "empty": b"",
        "made": b"gpcWrite",
        "other": b"CPCH",
    }
    for name, content in held.items():
        (kept / f"{name}.h.gch").write_bytes(content)
    with open(kept / "locks" / "made.lock", "w") as maker:
        fcntl.flock(maker, fcntl.LOCK_EX)
        assert headers().resolve() == kept
        assert sorted(path.name for path in kept.glob("*.gch")) == ["made.h.gch", "other.h.gch", "whole.h.gch"]
    guard.remove_folder(str(tmp_path / "own"))
    assert not (tmp_path / "own").exists()
    assert (kept / "whole.h.gch").exists()


def test_where_none_were_compiled_yet_there_is_a_place_for_them(tmp_path: Path, headers: Callable[[], Path]) -> None:
    (headers() / "one").touch()
    assert (tmp_path / "torchinductor_me" / "precompiled_headers" / "one").exists()


def test_somebody_elses_folder_is_not_linked(
    tmp_path: Path, headers: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchinductor_me" / "precompiled_headers").mkdir(parents=True)
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert not headers().exists()


def test_what_a_guard_and_its_harness_left_when_both_were_killed_goes_with_the_next_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that somebody still has, that is young, or that is not ours."""

    def named(mark: str) -> Path:
        folder = own_folder({"TMPDIR": str(tmp_path)}, mark)
        assert folder is not None
        return folder

    left, young, link, other = named("00000"), named("00001"), named("00002"), tmp_path / "innerloop.mine"
    with monkeypatch.context() as on_another_machine:  # whose locks may not be seen here
        on_another_machine.setattr("innerloop.harness.process.temp_folder._system", lambda: "xyz")
        elsewhere = named("00000")
    for folder in (left, young, other, elsewhere):
        folder.mkdir()
        (folder / "socket").touch()
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    for folder in (left, other, elsewhere):
        os.utime(folder, (1, 1))
    os.utime(young, (1 << 33, 1 << 33))  # however long this takes
    script = tmp_path / "engine.sh"
    script.write_text("#!/bin/sh\necho x > begun\nsleep 600\n")
    script.chmod(0o755)
    (tmp_path / "job.json").write_text("{}")
    worker = Worker(script, tmp_path / "job.json", tmp_path / "engine.log", {"TMPDIR": str(tmp_path)})
    try:
        until((tmp_path / "begun").exists)
        assert not left.exists()
        [own] = set(tmp_path.glob("innerloop.*")) - {young, other, link, elsewhere}
        os.utime(own, (1, 1))
        remove_left(tmp_path)
        assert own.exists()
    finally:
        worker.close(None)
    assert young.exists()
    assert other.exists()
    assert elsewhere.exists()
    assert link.is_symlink()
    assert not own.exists()


def test_vocabularies_that_are_there_are_found_from_a_workers_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an operator puts them on a machine without a network; of others nothing is said, as nothing may be made."""
    names = (*temp_folder.CACHES, *temp_folder.VOCABULARIES, "DATA_GYM_CACHE_DIR")
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "tiktoken-rs-cache").mkdir()
    monkeypatch.setenv(temp_folder.VARIABLE, str(own))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def variables(**given: str) -> dict[str, str]:
        for name in names:
            monkeypatch.setenv(name, "as it was")  # so that it is so again
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        temp_folder.use_own_temp_folder()
        return {
            name: os.environ[name] for name in (*temp_folder.VOCABULARIES, "DATA_GYM_CACHE_DIR") if name in os.environ
        }

    assert variables() == {"TIKTOKEN_RS_CACHE_DIR": str(tmp_path / "tiktoken-rs-cache")}
    (tmp_path / "data-gym-cache").mkdir()
    assert variables(TIKTOKEN_RS_CACHE_DIR="/mine") == {
        "TIKTOKEN_CACHE_DIR": str(tmp_path / "data-gym-cache"),
        "TIKTOKEN_RS_CACHE_DIR": "/mine",
    }
    assert "TIKTOKEN_CACHE_DIR" not in variables(DATA_GYM_CACHE_DIR="/mine")
