"""Files that somebody else wrote are read whole, or refused in one line, at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import read_json, read_kept, read_text


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(tmp_path / "a", "it") == "a: 1"


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(Refused, match=r"^it (is not a regular file|cannot be read)"):
            read_text(path, "it")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe{}", "it is not UTF-8 text"),
        (b"{", "it is not JSON: "),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"[1" + b"0" * 400 + b"]", "it is not JSON: a number has 401 digits"),
        (b" " * 101, "it is too large: 101 bytes; the limit is 100"),
    ],
)
def test_what_is_no_document_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(Refused) as refused:
        read_json(tmp_path / "a", "it", most_bytes=100 if "large" in message else 1_000_000)
    assert str(refused.value).startswith(message)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="it cannot be read: No such file or directory"):
        read_text(tmp_path / "none", "it")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe{}", b"{", None])
def test_a_damaged_file_of_our_own_is_said_to_be_so_and_not_waited_for(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "kept.json"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^it is not|^it is nested"):
        read_kept(path)


def test_a_file_of_our_own_that_is_not_there_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        read_kept(tmp_path / "none.json")
    assert missing.value.filename == str(tmp_path / "none.json")
