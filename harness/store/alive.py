"""Whether a run without a result is still going on."""

from __future__ import annotations

import os
import time
from pathlib import Path

from innerloop.harness.store.versions import Document

QUIET_S = 10.0  # a worker that shows no sign of life for this long has ended: nothing outlives its harness longer


def this_harness() -> Document:
    """What a job says of the process that writes it."""
    return {"harness_pid": os.getpid(), "harness_start": start_of(os.getpid())}


def start_of(pid: int) -> str | None:
    """The boot and the clock tick in it at which a process began, which tells it from a later one with its number
    whatever is done to clocks and files; None where there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path(f'/proc/{pid}/stat').read_bytes().rpartition(b')')[2].split()[19].decode()}"
    except (OSError, IndexError):
        return None


def harness_runs(job: Document, written: Path) -> bool:
    """Whether the process that wrote the job at `written` still runs (and not a later one with its number)."""
    import psutil

    pid = job.get("harness_pid")
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    if isinstance(start := job.get("harness_start"), str):
        return start == start_of(pid)
    try:  # of an earlier version
        return bool(psutil.Process(pid).create_time() <= written.stat().st_mtime + 1)
    except (psutil.Error, ValueError, OverflowError):
        return False


def quiet_s(folder: Path) -> float | None:
    """Seconds since the last sign of life of the worker; None if it gave none in this boot."""
    from innerloop.engines.worker.trace import last_beat_ns

    beat_ns = last_beat_ns(folder / "trace")
    quiet = -1.0 if beat_ns is None else (time.monotonic_ns() - beat_ns) / 1e9
    return quiet if quiet >= 0 else None


def is_running(folder: Path, job: Document, job_file: Path) -> bool:
    """Whether its harness runs, or its worker showed a sign of life a moment ago."""
    quiet = quiet_s(folder)
    return harness_runs(job, job_file) or (quiet is not None and quiet < QUIET_S)
