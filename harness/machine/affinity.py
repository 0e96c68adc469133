"""Which CPUs the worker and the harness run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from innerloop.harness.cli.errors import Refused


def parse_cpus(text: str, option: str) -> tuple[int, ...]:
    """A list as the kernel writes them, `0-3,8`, in order.

    Raises:
        Refused: it is none, or names a CPU that this process may not run on.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last.isdigit() or "-" not in part) or int(last or first) < int(first):
            raise Refused(f"{option} {text}: use a list of CPUs such as 0-3,8")
        found.update(range(int(first), min(int(last or first), 1 << 16) + 1))
    allowed = os.sched_getaffinity(0)
    if unknown := sorted(found - allowed):
        raise Refused(f"{option} {text}: this process may not run on CPU {unknown[0]}")
    return tuple(sorted(found))


@contextmanager
def started_on(cpus: tuple[int, ...] | None) -> Iterator[None]:
    """What this thread starts meanwhile, it starts on these CPUs; None: on those that it has itself."""
    before = os.sched_getaffinity(0)
    if cpus is not None:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running_on(cpus: tuple[int, ...] | None) -> Iterator[None]:
    """All threads of this process run on these CPUs meanwhile; None: where they do."""
    before = os.sched_getaffinity(0)
    if cpus is not None:
        move_threads(cpus)
    try:
        yield
    finally:
        if cpus is not None:
            move_threads(tuple(before))


def move_threads(cpus: tuple[int, ...]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has ended
            os.sched_setaffinity(int(thread), cpus)
