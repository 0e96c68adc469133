"""Signals that stop a command: raised where the work may be cut, kept back where it may not.

    with stop_signals() as held:  # SIGINT, SIGTERM and SIGHUP are ours; nothing is raised yet
        try:
            with held.released():  # here, and only here, one is raised
                work()
        except Stopped as stopped:
            stopped.take()  # from here on nothing is raised: what was done can be put away

Only the first signal is raised until it is taken and its hold has ended: later ones must not cut cleaning up short.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.05
IMPORTING = "<frozen importlib._bootstrap>"  # the file of the frames of an import


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP reached the harness. Not an Exception, so that no handler for errors swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    def take(self) -> Stopped:
        """Says that whoever caught it sees to the end; it is not raised again."""
        _state.over, _state.taken = True, self.number
        _state.waiting = _state.raised = _state.stopping = None
        return self

    def __del__(self) -> None:
        if _state is not None and _state.raised == id(self):  # at the interpreter's end modules are empty
            _state.lost(self.number)


class _State:
    """What this process does about signals. All of it is the main thread's."""

    def __init__(self) -> None:
        self.before: dict[int, Any] | None = None  # the handlers that were there; None: signals are not ours
        self.holds = 0  # depth: above 0 nothing is raised
        self.waiting: int | None = None  # came, and has not been raised
        self.raised: int | None = None  # id of the Stopped that is on its way to whoever takes it
        self.stopping: int | None = None  # the number of one that was raised and not taken
        self.taken: int | None = None  # the number of the last one that was taken
        self.over = False  # taken, and its hold has not ended yet

    def received(self, number: int, frame: FrameType | None) -> None:
        if self.raised is not None or self.over:
            return
        self.waiting = number
        if self.holds == 0 and importing(frame):  # a module that is half there could not be imported again
            again(number)
        else:
            self.deliver()

    def deliver(self) -> None:
        """Raises what waits, where that is allowed."""
        if self.waiting is None or self.holds or self.raised is not None or self.over:
            return
        raise self.made(self.waiting)

    def made(self, number: int) -> Stopped:
        """The Stopped to be raised. No frame of its traceback may keep it, or it would not be seen to be lost."""
        stopped = Stopped(number)
        self.waiting, self.stopping, self.raised = None, number, id(stopped)
        return stopped

    def lost(self, number: int) -> None:
        """A callback of Python's, or native code, let nothing out: the signal is sent once more, after it."""
        self.raised = None
        if self.before is not None and not self.over:
            self.waiting = number
            again(number)


_state = _State()


def importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


def again(number: int) -> None:
    """Sends the signal to the main thread after a moment, as long as signals are ours. No `threading.Timer`: a handler
    may run while this thread has the locks of that module."""
    mine = _state.before

    def send() -> None:
        time.sleep(AGAIN_S)
        if _state.before is mine and _state.waiting is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    _thread.start_new_thread(send, ())


class hold:
    """Meanwhile no signal is raised; one that came is raised at the end, unless an outer hold keeps it longer.

    What has to be cleaned up is acquired and cleaned up in here, and used in `released()`. In a thread other than the
    main one, which no signal reaches, nothing is done.
    """

    def __init__(self) -> None:
        self._mine = threading.current_thread() is threading.main_thread()
        self._outer = 0

    def __enter__(self) -> hold:
        if self._mine:
            self._outer = _state.holds
            _state.holds += 1
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._mine:
            return
        if _state.over and self._outer == 0:
            _state.waiting, _state.over = None, False
        _state.holds = self._outer
        _state.deliver()

    def released(self) -> _Released:
        """Meanwhile signals are raised as they were around this hold. Whatever else comes out after one has been
        raised is taken for it: native code makes other exceptions of those that pass through it."""
        return _Released(self._outer if self._mine else None)


class _Released:
    def __init__(self, depth: int | None) -> None:
        self._depth, self._held = depth, 0

    def __enter__(self) -> None:
        if self._depth is not None:
            self._held, _state.holds = _state.holds, self._depth
            _state.deliver()

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._depth is None:
            return
        _state.holds = self._held
        if error is not None and not isinstance(error, Stopped) and _state.stopping is not None:
            raise _state.made(_state.stopping) from error


class stop_signals(hold):
    """A hold in which SIGINT, SIGTERM and SIGHUP are ours; one within another one is only a hold.

    A SIGHUP that is ignored stays ignored: nohup asked for that. `late`: a signal that came when the work was over.
    """

    late: int | None = None

    def __enter__(self) -> stop_signals:
        super().__enter__()
        self._installed = self._mine and _state.before is None
        if self._installed:
            _state.waiting = _state.raised = _state.stopping = _state.taken = None
            _state.over = False
            _state.before = {}
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    _state.before[number] = signal.signal(number, _state.received)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._installed:
            super().__exit__(kind, error, trace)
            return
        sys.unraisablehook = self._hook
        for number, old in (_state.before or {}).items():
            signal.signal(number, old)
        self.late = None if _state.over else _state.waiting
        _state.before = _state.waiting = _state.raised = _state.stopping = None
        _state.over = False
        _state.holds = self._outer

    @property
    def taken(self) -> int | None:
        """The signal that the work was stopped by, once that was seen to."""
        return _state.taken if self._mine else None

    def _unraisable(self, what: Any) -> None:
        if not isinstance(what.exc_value, Stopped):  # which is sent again
            self._hook(what)
