"""Waiting until a moment, to some microseconds, whatever is waited with: a sleep, a queue, a selector, an event loop.

Selectors and event loops round their timeouts up to whole milliseconds. A `Timer` is a file that becomes readable just
before a moment, which they notice at once. Waking up takes 0.1 ms, at times more, so the last stretch is spent polling.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from contextlib import suppress

WAIT_S = 0.1  # then the caller gets a look at the clock, whether or not anything is due
BEAT_NS = 20_000_000  # a long sleep is cut into parts of this length
SPIN_NS = 500_000  # the last stretch
TURN_NS = 100_000  # the end of it, in which an event loop gets no turn

TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1  # linux/timerfd.h


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: the interval, which stays 0, and the moment."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Timer:
    """A timerfd of the monotonic clock, for `select` or `add_reader`. `os.timerfd_create` is Python 3.13's.

    Raises:
        OSError: the system gives no timer.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._at_ns: int | None = None

    def fileno(self) -> int:
        return self.fd

    def arm(self, moment_ns: int | None) -> None:
        """Readable from SPIN_NS before `moment_ns` (monotonic), at once where that has passed; None: never."""
        if moment_ns == self._at_ns:
            return
        seconds, nanoseconds = divmod(0 if moment_ns is None else max(moment_ns - SPIN_NS, 1), 1_000_000_000)
        spec = _TimerSpec(0, 0, seconds, nanoseconds)
        if self._libc.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._at_ns = moment_ns

    def clear(self) -> None:
        """Takes note that it was readable: it is unarmed then."""
        with suppress(BlockingIOError):
            os.read(self.fd, 8)
        self._at_ns = None

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class LoopTimer:
    """Has an event loop call `call` at a moment."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
        self._loop, self._call, self._timer = loop, call, Timer()
        self._at_ns: int | None = None
        loop.add_reader(self._timer.fd, self._soon)

    def arm(self, moment_ns: int | None) -> None:
        """At `moment_ns` (monotonic), at once where that has passed, in place of any earlier one; None: never."""
        self._at_ns = moment_ns
        self._timer.arm(moment_ns)

    def _soon(self) -> None:
        self._timer.clear()
        self._poll()

    def _poll(self) -> None:
        if self._at_ns is None or (left := self._at_ns - time.monotonic_ns()) > SPIN_NS:
            return  # it was armed anew
        if left > TURN_NS:
            self._loop.call_soon(self._poll)
            return
        while time.monotonic_ns() < self._at_ns:
            pass
        self._at_ns = None
        self._call()

    def close(self) -> None:
        if self._timer.fd >= 0:
            self._loop.remove_reader(self._timer.fd)
            self._timer.close()


def sleep_until(moment_ns: int, beat: Callable[[int], object]) -> None:
    """Returns at `moment_ns` (monotonic). `beat` is called with the time before every part of the sleep."""
    clock = time.monotonic_ns
    while (left := moment_ns - clock()) > SPIN_NS:
        beat(moment_ns - left)
        time.sleep(min(left - SPIN_NS, BEAT_NS) / 1e9)
    while clock() < moment_ns:
        pass


def seconds_left(until_ns: int | None, most_s: float = WAIT_S) -> float:
    """`most_s`, or less where `until_ns` (monotonic) comes before; at least 0."""
    if until_ns is None:
        return most_s
    return min(max((until_ns - time.monotonic_ns()) / 1e9, 0.0), most_s)
