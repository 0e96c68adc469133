"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.schema.experiment import Event
from innerloop.harness.store import atomic, journal


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_text(path, "one")
    atomic.write_text(path, "två")
    assert path.read_text(encoding="utf-8") == "två"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("contended", [False, True])
def test_a_write_that_is_cut_leaves_the_old_file(tmp_path: Path, error: type[BaseException], contended: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def cut() -> None:
        with atomic.whole(path, contended=contended) as partial:
            partial.write_text("ne")
            assert path.read_text() == "old"
            raise error

    with pytest.raises(error):
        cut()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_partial_file_is_hidden_and_in_the_same_folder(tmp_path: Path) -> None:
    with atomic.whole(tmp_path / "a.json") as partial:
        assert partial == tmp_path / ".a.json.partial"
        partial.touch()


def test_writers_of_the_same_file_do_not_share_a_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for pid in (7, 8):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        with atomic.whole(tmp_path / "a.json", contended=True) as partial:
            names.append(partial.name)
            partial.touch()
    assert names == [".a.json.7.partial", ".a.json.8.partial"]


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    (tmp_path / ".a.partial").symlink_to(elsewhere)
    (tmp_path / "a").symlink_to(elsewhere)
    atomic.write_text(tmp_path / "a", "ours")
    assert (elsewhere.read_text(), (tmp_path / "a").read_text()) == ("theirs", "ours")


@pytest.mark.parametrize("place", ["fifo", "/dev/null", "/dev/fd/0"])
def test_a_device_is_not_replaced_by_a_file(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Refused, match="is not a regular file"):
        atomic.write_text(tmp_path / place, "ours")
    assert not (tmp_path / place).is_file() or place == "/dev/fd/0"


def test_a_file_that_cannot_be_written_is_named_and_not_its_partial_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refused:
        atomic.write_text(tmp_path / "none" / "a.json", "one", contended=True)
    assert refused.value.filename == str(tmp_path / "none" / "a.json")


def test_a_write_that_a_full_disk_cuts_names_the_file(tmp_path: Path) -> None:
    def cut() -> None:
        with atomic.whole(tmp_path / "a.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as met:
        cut()
    assert met.value.filename == str(tmp_path / "a.json")
    assert str(met.value).endswith(f"{str(tmp_path / 'a.json')!r}")
    (tmp_path / journal.FILE).symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left|seek") as met:
        journal.append(tmp_path, Event("started", "a", 1, "boot", "2026-01-01T00:00:00+00:00"))
    assert met.value.filename == str(tmp_path / journal.FILE)
