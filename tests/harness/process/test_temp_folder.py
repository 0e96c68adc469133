"""A worker's temporary folder has room for the names of sockets."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from innerloop.harness.process.launcher import environment
from innerloop.harness.process.temp_folder import NAMES_BYTES


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
    path = Path(folder) / ("x" * (NAMES_BYTES - 1))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    path.unlink()


def test_where_no_folder_can_be_written_a_worker_is_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert "TMPDIR" not in environment({})
