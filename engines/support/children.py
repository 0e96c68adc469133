"""Processes below the worker: a module of this package in an interpreter of its own, which does not outlive it."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 5.0  # between SIGTERM and SIGKILL
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildFailed(RuntimeError):
    """A child ended before it was ready; what it had to say is in the log."""


class ChildKilled(RuntimeError):
    """A signal ended a child that was at work."""


class Child:
    """Runs `engines.MODULE.main(told, channel)`; the child writes one line to the channel when it is ready.

    It is in the worker's process group and writes to its log.
    """

    def __init__(self, module: str, told: str) -> None:
        read_fd, write_fd = os.pipe()
        try:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).resolve().parents[1]),
                    told,
                    str(write_fd),
                    module,
                ],  # see __main__.py
                stdin=subprocess.DEVNULL,
                pass_fds=(write_fd,),
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        self._module, self._channel = module, read_fd

    def ready(self, limit_s: float | None = None) -> str:
        """Waits for the line and returns it.

        Raises:
            ChildFailed: it ended first, or `limit_s` seconds went by.
            ChildKilled: a signal ended it first.
        """
        deadline = None if limit_s is None else time.monotonic() + limit_s
        with open(self._channel, "rb") as channel, selectors.DefaultSelector() as waiting:
            self._channel = -1
            waiting.register(channel, selectors.EVENT_READ)
            while not waiting.select(0.2):
                if self.process.poll() is not None:
                    break
                if deadline is not None and time.monotonic() > deadline:
                    raise ChildFailed(f"engines.{self._module} was not ready within {limit_s:g} s")
            line = channel.readline() if waiting.select(0) else b""
        if not line:
            name = f"engines.{self._module}"
            ended = self.ended(name, GRACE_S) or ChildFailed(f"{name} never reported that it was ready")
            self.end()
            raise type(ended)(f"{ended}; read the end of the log")
        return line.decode()

    def ended(self, what: str, patience_s: float = 0.0) -> ChildFailed | ChildKilled | None:
        """The error that says how it ended; None: it lives. `patience_s`: how long it may still take to end, where
        there are signs that it does."""
        code = self.process.poll()
        if code is None and patience_s > 0:
            try:
                code = self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                return None
        if code is None:
            return None
        if code < 0:
            return ChildKilled(f"{what} was killed by {signal_name(-code)}")
        return ChildFailed(f"{what} exited with code {code}")

    def end(self) -> None:
        """Ends it and waits for it; what it leaves below itself is the guard's to sweep."""
        if self._channel >= 0:
            os.close(self._channel)
            self._channel = -1
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def follow_parent() -> None:
    """Asks the kernel to kill this process when its parent ends, however that goes. For the child to call first."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tell(channel: str, line: str) -> None:
    """The child's side of `ready`."""
    with open(int(channel), "w") as told:
        told.write(line + "\n")
