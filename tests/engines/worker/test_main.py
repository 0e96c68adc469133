from __future__ import annotations

import errno
import fcntl
import functools
import json
import multiprocessing.util
import os
import subprocess
import sys

import pytest

from innerloop.engines.contract import UnsupportedSetting, WrongTokenCount
from innerloop.engines.support.children import ChildKilled
from innerloop.engines.worker import control
from innerloop.engines.worker import main as worker


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


WORDS = ("out_of_memory", "no enough gpu memory")  # of an adapter


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (WrongTokenCount("x"), "wrong_token_count"),
        (UnsupportedSetting("x"), "unsupported_setting"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (OSError(errno.EFBIG, "File too large"), "file_error"),
        (OSError(errno.EMFILE, "Too many open files", "/a"), "system_limit"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "engine_exception"),  # of a lock, or a pipe
        (RuntimeError("can't start new thread"), "system_limit"),
        (ChildKilled("the server was killed by SIGKILL"), "killed_by_signal"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "out_of_memory_device"),
        (RuntimeError("CUDA error: out of memory; CUDA out of memory"), "out_of_memory_device"),
        (RuntimeError("TurboMind ended request 3 with OUT_OF_MEMORY (status 11)"), "out_of_memory_device"),
        (RuntimeError("No enough gpu memory for kv cache."), "out_of_memory_device"),
        (MemoryError(), "out_of_memory_host"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
            "out_of_memory_host",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory_host"),
        (ValueError("shapes differ"), "engine_exception"),
        (SystemExit(3), "engine_exception"),
    ],
)
def test_causes_are_told_apart(error, cause):
    assert worker.cause_of(error, "cpu", WORDS) == cause


def test_a_process_that_the_system_refuses_is_told_from_a_lock_that_somebody_holds(monkeypatch, tmp_path):
    def lock():
        with open(tmp_path / "lock", "w") as one, open(tmp_path / "lock") as other:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def started_in(module):  # as fork_exec, which has no frame of its own, is refused there
        return lambda: exec(compile("raise BlockingIOError(11, 'refused')", module.__file__, "exec"))

    nothing, end = os.pipe()
    os.set_blocking(nothing, False)
    monkeypatch.setattr("os.fork", functools.partial(os.read, nothing, 1))  # refused with the same number
    fork = multiprocessing.get_context("fork").Process(target=print)
    cases = [
        (fork.start, "system_limit"),
        (lambda: os.read(nothing, 1), "engine_exception"),
        (lock, "engine_exception"),
    ]
    cases += [(started_in(module), "system_limit") for module in (subprocess, multiprocessing.util)]
    for start, cause in cases:
        with pytest.raises(BlockingIOError) as met:
            start()
        assert worker.cause_of(met.value) == cause
    os.close(nothing)
    os.close(end)


@pytest.mark.parametrize(("device", "cause"), [("cuda", "out_of_memory_device"), ("cpu", "out_of_memory_host")])
def test_what_an_engine_wraps_is_looked_into_and_belongs_to_its_device(device, cause):
    error = RuntimeError("engine core failed")
    error.__cause__ = MemoryError("footprint")
    assert worker.cause_of(error, device) == cause
    assert worker.cause_of(ValueError("No available memory for the cache blocks."), device) == cause


def test_the_control_channel_carries_one_json_document_a_line():
    read_fd, write_fd = os.pipe()
    channel = control.Control(write_fd)
    channel.send("phase", phase="load", import_s=1.5)
    channel.send("note", text="two\nlines")
    lines = os.read(read_fd, 65536).decode().splitlines()
    first, second = map(json.loads, lines)
    assert (first["event"], first["phase"], first["import_s"]) == ("phase", "load", 1.5)
    assert second["text"] == "two\nlines"
    assert second["time_ns"] >= first["time_ns"] > 0


def test_a_traceback_is_kept_by_its_last_lines():
    try:
        raise ValueError("the reason")
    except ValueError as error:
        lines = worker.last_lines(error)
    assert lines[-1] == "ValueError: the reason"
    assert len(lines) <= worker.TRACEBACK_LINES


def test_the_control_channel_is_a_file_of_this_process_alone(tmp_path):
    read_fd, write_fd = os.pipe()
    os.set_inheritable(write_fd, True)
    assert control.opened(str(write_fd)) == write_fd
    assert not os.get_inheritable(write_fd)

    by_hand = control.opened("1")  # standard output stays the engine's as well
    assert by_hand > 2
    assert not os.get_inheritable(by_hand)
    os.close(by_hand)

    fifo = tmp_path / "control"
    os.mkfifo(fifo)
    listening = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    control.Control(control.opened(str(fifo))).send("note", text="heard")
    assert json.loads(os.read(listening, 65536))["text"] == "heard"
    for fd in (read_fd, write_fd, listening):
        os.close(fd)


def test_memory_that_the_system_does_not_say_is_unknown(tmp_path):
    """A sandbox has no VmHWM in /proc/self/status."""
    (tmp_path / "status").write_text("VmRSS:\t  2048 kB\n")
    assert worker.resident_bytes("VmRSS", str(tmp_path / "status")) == 2 << 20
    assert worker.resident_bytes("VmHWM", str(tmp_path / "status")) is None
    assert worker.resident_bytes("VmHWM", str(tmp_path / "none")) is None
    assert (worker.resident_bytes("VmHWM") or 0) > 0


def test_a_library_that_was_not_preloaded_is_told_from_one_that_was(tmp_path):
    script = tmp_path / "told.py"
    script.write_text("from innerloop.engines.worker.main import not_preloaded; print(not_preloaded())")
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "LD_PRELOAD": "/gone/liba.so:libm.so.6 libgone.so"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['/gone/liba.so', 'libgone.so']\n"
