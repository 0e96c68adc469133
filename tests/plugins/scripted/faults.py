"""What can go wrong with an engine, on demand: each fault is one small function."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from innerloop.contract import Nothing, Request, Session, StepReport, UnsupportedSetting

from .options import FaultPlan

PLACES = ("import", "load", "step", "close")
CHILD_MARK = "innerloop-scripted-child"  # the last argument of every child, to find it by
CHILD_S = 600  # then a child that nobody ended goes by itself
CHILDREN = 2
STOP_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
FAR_ID = 1_000_000  # behind an id that was submitted, one that never was


class Intended(RuntimeError):
    """The exception that a fault asked for."""


class OutOfMemoryError(RuntimeError):
    """Called as torch's is."""


# ---------------------------------------------------------------- what happens at a place


def raise_error(plan: FaultPlan) -> None:
    raise Intended(f"the scripted engine fails, as fault={plan.fault} asked")


def raise_markup(plan: FaultPlan) -> None:
    """An exception whose text would mean something to a terminal and to a library that prints there."""
    raise Intended("[/INST] [red]not markup[/red] \x1b[31mnot red\x1b[0m\r\x07 \x9b2J \u202e \udc80")


def hang(plan: FaultPlan) -> None:
    while True:
        time.sleep(3600)


def hang_ignoring_signals(plan: FaultPlan) -> None:
    _ignore_stop_signals()
    hang(plan)


def segfault(plan: FaultPlan) -> None:
    ctypes.string_at(0)


def oom_host(plan: FaultPlan) -> None:
    """A MemoryError of the allocator itself: there is no such address space, so that nothing is taken from anyone."""
    bytearray(1 << 62)


def oom_device(plan: FaultPlan) -> None:
    raise OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.31 GiB is "
        "free. Including non-PyTorch memory, this process has 77.79 GiB memory in use."
    )


def kill(plan: FaultPlan) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(plan: FaultPlan) -> None:
    os._exit(0)


def children(plan: FaultPlan) -> None:
    """Processes in sessions of their own that no polite signal ends, and that hold what this process inherited."""
    command = [sys.executable, "-S", "-c", f"import time; time.sleep({CHILD_S})", CHILD_MARK]
    for _ in range(CHILDREN):
        subprocess.Popen(command, start_new_session=True, preexec_fn=_ignore_stop_signals)


def children_then_kill(plan: FaultPlan) -> None:
    children(plan)
    kill(plan)


def noise_on_stdout(plan: FaultPlan) -> None:
    """A megabyte past Python's own buffers: no line ends, bytes that are no UTF-8, escape sequences, JSON."""
    noise = b'\xff\xfe\x1b[2J\x00{"event": "phase", "phase": "close"}' * 25_000
    while noise:
        noise = noise[os.write(1, noise) :]


def take_long(plan: FaultPlan) -> None:
    time.sleep(plan.fault_s)


def _ignore_stop_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


# ---------------------------------------------------------------- what becomes of a report; whether it could


def miscount_short(report: StepReport) -> bool:
    """A request is said to be finished, and its last token is withheld."""
    return _give_last(report, lambda ids: ids[:-1])


def miscount_long(report: StepReport) -> bool:
    """A request gets a token more than it asked for."""
    return _give_last(report, lambda ids: [*ids, ids[-1]])


def wrong_token(report: StepReport) -> bool:
    """One token id of one request is another."""
    if not report.tokens:
        return False
    (request, ids), *others = report.tokens
    report.tokens = [(request, [ids[0] ^ 1, *ids[1:]]), *others]
    return True


def unknown_id(report: StepReport) -> bool:
    """Tokens for a request that was never submitted."""
    if not report.tokens:
        return False
    report.tokens = [*report.tokens, (report.tokens[0][0] + FAR_ID, [0])]
    return True


def duplicate_entry(report: StepReport) -> bool:
    """A request stands twice in one report."""
    if not report.tokens:
        return False
    report.tokens = [*report.tokens, report.tokens[0]]
    return True


def undeclared(report: StepReport) -> bool:
    """A field is left out that was not declared as unreported."""
    report.kv_usage = None
    return True


def phases_exceed(report: StepReport) -> bool:
    """A phase takes longer than the step that it is part of."""
    report.execute_ns = 2 * (report.end_ns - report.start_ns) + 1
    return True


def _give_last(report: StepReport, change: Callable[[list[int]], list[int]]) -> bool:
    """Changes what the first request to finish in this step gets."""
    if not report.finished:
        return False
    victim = report.finished[0]
    changed = [(request, change(list(ids)) if request == victim else ids) for request, ids in report.tokens]
    report.tokens = [(request, ids) for request, ids in changed if ids]
    return True


# ---------------------------------------------------------------- when

AT: dict[str, tuple[str, Callable[[FaultPlan], None]]] = {  # the kind -> its usual place, and what happens there
    "raise": ("step", raise_error),
    "raise_markup": ("step", raise_markup),
    "hang": ("step", hang),
    "hang_ignoring_signals": ("step", hang_ignoring_signals),
    "segfault": ("step", segfault),
    "oom_host": ("step", oom_host),
    "oom_device": ("step", oom_device),
    "kill": ("step", kill),
    "exit": ("step", leave),
    "children": ("load", children),
    "children_then_kill": ("step", children_then_kill),
    "noise_on_stdout": ("load", noise_on_stdout),
    "slow_load": ("load", take_long),
    "close_raises": ("close", raise_error),
    "close_hangs": ("close", hang),
}
REPORTS: dict[str, Callable[[StepReport], bool]] = {
    call.__name__: call
    for call in (miscount_short, miscount_long, wrong_token, unknown_id, duplicate_entry, undeclared, phases_exceed)
}
LOST_WORK = "lost_work"  # the session says that it has no work left while a request lacks tokens
SURPLUS = "surplus"  # after its last request has ended, the engine gives it one token more
REPEATS = "repeats_answer"  # every request is given the tokens of the first one, as far as those are known
KINDS = (*AT, *REPORTS, LOST_WORK, SURPLUS, REPEATS)


def check(plan: FaultPlan) -> None:
    """Raises UnsupportedSetting for a kind or a place that there is not."""
    if plan.fault and plan.fault not in KINDS:
        raise UnsupportedSetting(f"fault={plan.fault}: there is no such fault; there are {', '.join(KINDS)}")
    if plan.fault_at and (plan.fault not in AT or plan.fault_at not in PLACES):
        raise UnsupportedSetting(f"fault_at={plan.fault_at}: {', '.join(PLACES)}, for {', '.join(AT)}")


def reach(place: str, plan: FaultPlan) -> None:
    """Lets the fault happen that is planned for this place, if any."""
    if plan.fault in AT:
        usual, act = AT[plan.fault]
        if place == (plan.fault_at or usual):
            act(plan)


class Faulty(Session):
    """A session with which one thing goes wrong: before the step that follows `fault_step` reports, or in the first
    report from then on that it can happen to."""

    def __init__(self, inner: Session, plan: FaultPlan) -> None:
        self.info = inner.info
        self._inner, self._plan = inner, plan
        self._reports = 0
        self._over = self._lost = False
        self._last: StepReport | None = None  # that finished a request
        self._given: dict[int, list[int]] = {}  # to each request, where answers are repeated

    def prepare(self, request: Request) -> Any:
        return self._inner.prepare(request)

    def submit(self, prepared: Any) -> None:
        self._inner.submit(prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if self._owes_surplus():
            assert self._last is not None
            self._over = True
            return replace(self._last, tokens=[(self._last.finished[-1], [0])], finished=())
        due = not self._over and self._reports >= self._plan.fault_step
        if due and self._plan.fault not in (*REPORTS, SURPLUS, REPEATS):
            self._over = True
            self._lost = self._plan.fault == LOST_WORK
            reach("step", self._plan)
        if self._lost:
            return Nothing.FLUSHED
        report = self._inner.step(until_ns)
        if isinstance(report, StepReport):
            self._reports += 1
            self._last = report if report.finished else self._last
            if due and self._plan.fault in REPORTS:
                self._over = REPORTS[self._plan.fault](report)
            if self._plan.fault == REPEATS:
                report.tokens = [(request, self._repeated(request, list(ids))) for request, ids in report.tokens]
        return report

    def _repeated(self, request: int, ids: list[int]) -> list[int]:
        first = next(iter(self._given.values()), [])
        given = self._given.setdefault(request, [])
        known = first[len(given) : len(given) + len(ids)]
        given += [*known, *ids[len(known) :]]
        return given[-len(ids) :]

    def has_work(self) -> bool:
        return not self._lost and (self._inner.has_work() or self._owes_surplus())

    def _owes_surplus(self) -> bool:
        due = self._plan.fault == SURPLUS and not self._over and self._reports >= self._plan.fault_step
        return due and self._last is not None and not self._inner.has_work()

    def reset_caches(self) -> bool:
        return self._inner.reset_caches()

    def close(self) -> None:
        self._inner.close()
        reach("close", self._plan)
