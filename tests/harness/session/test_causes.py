from __future__ import annotations

import errno
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.result.codes import FAILURES
from innerloop.harness.session.causes import advice_of, cause_of, refuses
from innerloop.harness.session.job import FILES, take_back


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a"), "disk_full"),
        (OSError(errno.EFBIG, "File too large"), "file_error"),
        (OSError(errno.EROFS, "Read-only file system", "/a"), "file_error"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "file_error"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory_host"),
        (MemoryError(), "out_of_memory_host"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "system_limit"),
        (OSError(errno.EMFILE, "Too many open files"), "system_limit"),
        (RuntimeError("can't start new thread"), "system_limit"),
        (InnerloopError("the folder cannot be removed"), "harness"),
        (ZeroDivisionError(), "harness"),
    ],
)
def test_what_the_system_refuses_is_told_from_a_fault_of_ours(error, cause):
    assert cause_of(error) == cause
    assert cause in FAILURES


def test_a_file_that_is_refused_before_the_worker_starts_refuses_the_run(tmp_path: Path):
    denied, log = PermissionError(errno.EACCES, "Permission denied", "/cache"), tmp_path / "engine.log"
    assert refuses(denied, log)
    assert not refuses(ZeroDivisionError(), log)
    limited = OSError(errno.EMFILE, "Too many open files")
    assert refuses(limited, log)
    assert "ulimit -n" in advice_of(limited)
    assert "ulimit -f" in advice_of(denied)
    log.touch()
    assert not refuses(denied, log)


def test_what_was_written_of_a_refused_run_is_taken_back(tmp_path: Path):
    for name in (*FILES, ".job.json.partial", "engine.log"):
        (tmp_path / name).write_text("x")
    take_back(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["engine.log"]
