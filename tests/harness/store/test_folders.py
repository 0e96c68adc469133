"""What the disk says while something of the cache is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments.build import discard as discard_environment
from innerloop.harness.store.folders import DiskFull, discard, disk_errors, partial, sweep


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ELOOP])
def test_a_place_that_may_not_be_written_is_no_full_disk(tmp_path: Path, number: int) -> None:
    with pytest.raises(Refused) as refused, disk_errors(tmp_path / "x", "free some space"):
        raise OSError(number, os.strerror(number))
    assert not isinstance(refused.value, DiskFull)
    [advice] = refused.value.details
    assert advice == f"set INNERLOOP_HOME to a folder that this user may write to; {tmp_path} is none"


@pytest.mark.parametrize(
    ("number", "details"),
    [
        (errno.EFBIG, ("raise the limit of a file's size (ulimit -f), or set INNERLOOP_HOME to another file system",)),
        (errno.EIO, ()),
        (errno.EMFILE, ()),
    ],
)
def test_another_folder_is_advised_only_where_the_place_is_the_trouble(
    tmp_path: Path, number: int, details: tuple[str, ...]
) -> None:
    with pytest.raises(Refused) as refused, disk_errors(tmp_path / "x", "free some space"):
        raise OSError(number, os.strerror(number))
    assert refused.value.details == details


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_answered_with_how_to_make_room(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskFull) as refused, disk_errors(tmp_path / "x", "free some space"):
        raise OSError(number, os.strerror(number))
    assert refused.value.details == ("free some space",)


def test_a_folder_that_is_kept_elsewhere_is_removed_as_a_link_and_stays_there(tmp_path: Path) -> None:
    """A checkpoint that had been moved to a larger disk became a half-made one that nothing could replace."""
    kept = tmp_path / "disk" / "model"
    kept.mkdir(parents=True)
    (kept / "weights").write_text("all")
    linked, gone = tmp_path / "linked", tmp_path / "gone"
    for _ in range(2):
        linked.symlink_to(kept)
        gone.symlink_to(tmp_path / "nowhere")
        discard(linked)
        discard(gone)
        discard_environment(linked)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk"]
    linked.symlink_to(kept)
    discard_environment(linked)
    partial(linked).symlink_to(kept)
    sweep(tmp_path)
    assert not os.path.lexists(linked)
    assert not os.path.lexists(partial(linked))
    assert (kept / "weights").read_text() == "all"
