"""Calls one input, and says what was wrong with that: a traceback, time, memory, files elsewhere, letters that act."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.harness.cli.words import is_control

SLOW_S, STUCK_S = 5.0, 30.0
MOST_BYTES = 1 << 30  # that one input may add to the peak
_outside: list[str] = []
_box: list[str] = []  # where files may be written now; empty: anywhere


class Stuck(BaseException):
    """It was ended from outside."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one call did. `code` is its exit code, `faults` what it must not do."""

    code: int | None
    seconds: float
    faults: tuple[str, ...]


def called(work: Callable[[], int], box: Path) -> Seen:
    """Runs `work`, which may write below `box` alone."""
    out, faults, code = io.StringIO(), [], None
    peak, begun = _peak(), time.process_time()
    with _kept_in(box), _ended(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = work()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except Stuck:
            faults.append(f"stuck: ended after {STUCK_S:g} s")
        except BaseException as error:  # everything that a user would see as a traceback
            ours = [one for one in traceback.extract_tb(error.__traceback__) if "/harness/" in one.filename]
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
            faults.append(f"traceback: {where} {type(error).__name__}: {str(error)[:160]}")
    seconds = time.process_time() - begun
    if code not in (0, 2, 3, None):
        faults.append(f"exit code {code}")
    if seconds > SLOW_S:
        faults.append(f"slow: {seconds:.1f} s")
    if (more := _peak() - peak) > MOST_BYTES:
        faults.append(f"memory: {more >> 20} MiB more")
    faults += [f"wrote elsewhere: {path}" for path in _outside]
    _outside.clear()
    if acting := {letter for letter in out.getvalue() if is_control(letter) and letter not in "\n\t"}:
        faults.append(f"printed {sorted(acting)!r}")
    if out.getvalue().count("Traceback (most recent call last)"):
        faults.append("printed a traceback")
    return Seen(code, seconds, tuple(faults))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Stuck

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, STUCK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _kept_in(box: Path) -> Iterator[None]:
    _box.append(str(box.resolve()))
    try:
        yield
    finally:
        _box.clear()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _box or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link", "os.truncate"):
        return
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not isinstance(path, (str, bytes)) or not writes:
            return
        paths = [path]
    else:
        paths = [one for one in arguments[:2] if isinstance(one, (str, bytes))]
    for one in paths:
        real = os.path.realpath(os.fsdecode(one))
        if not real.startswith((_box[0], "/dev/null", "/dev/shm/")) and "__pycache__" not in real:
            _outside.append(f"{event} {real}")


sys.addaudithook(_audit)
