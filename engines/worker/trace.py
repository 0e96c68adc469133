"""The layout of a trace on disk: three files of fixed-size records, each behind a 4 KiB header page.

The header's `count` is written after the records that it counts, so a reader in another process, or one that comes
after a crash, never sees a record that is not whole. Missing integers are -1, missing fractions NaN.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import numpy as np

HEADER_BYTES = 4096
MAGIC = b"innerlp1"
MISSING = -1

PHASES = ("schedule", "prepare", "execute", "wait", "sample", "update")

HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("record_bytes", "<i8"),
        ("count", "<i8"),  # whole records behind this page
        ("beat_ns", "<i8"),  # monotonic time of the last heartbeat
        ("start_ns", "<i8"),  # the window's edges; 0 until they are known
        ("end_ns", "<i8"),
        ("recorder_ns", "<i8"),  # time spent writing records so far
        ("tokens", "<i8"),  # output tokens so far
        ("finished", "<i8"),  # requests finished so far
        ("counts_overhead", "<i8"),  # 1 where the trace has what follows: older ones have 0
        ("observer_ns", "<i8"),  # time that the adapter spent on looking at the engine so far
        ("growths", "<i8"),  # how often a file of this trace had to grow
        ("gc_pauses", "<i8"),  # collections of Python's garbage so far, their time, and the longest
        ("gc_ns", "<i8"),
        ("gc_longest_ns", "<i8"),
    ]
)

STEP = np.dtype(
    [
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        *[(f"{phase}_ns", "<i8") for phase in PHASES],
        ("prefill_tokens", "<i4"),
        ("decode_tokens", "<i4"),
        ("cached_tokens", "<i4"),
        ("drafted_tokens", "<i4"),
        ("accepted_tokens", "<i4"),
        ("output_tokens", "<i4"),
        ("running", "<i4"),
        ("waiting", "<i4"),
        ("preempted", "<i4"),
        ("kv_usage", "<f8"),
    ]
)

TOKEN = np.dtype([("time_ns", "<i8"), ("request", "<i4"), ("count", "<i4"), ("step", "<i8")])

REQUEST = np.dtype(
    [
        ("due_ns", "<i8"),  # absolute monotonic times, -1 until they happen
        ("submitted_ns", "<i8"),
        ("first_token_ns", "<i8"),
        ("last_token_ns", "<i8"),  # written when a request finishes; until then the token records tell
        ("prompt_tokens", "<i4"),
        ("asked_tokens", "<i4"),
        ("output_tokens", "<i4"),  # likewise
        ("user", "<i4"),
        ("state", "<i4"),  # see STATES
        ("request_class", "<i4"),  # which of the workload's classes, -1: it has none; 0 in traces of earlier versions
    ]
)

STATES = ("unsent", "running", "finished", "cut")  # cut: still running when the window closed

LAYOUT = {"steps": STEP, "tokens": TOKEN, "requests": REQUEST}

# Layouts of earlier versions, whose traces are still read where a harness was killed before it made tables of them.
SINCE_CONTRACT_2 = ("cached_tokens", "drafted_tokens", "accepted_tokens")
EARLIER = {
    "steps": [np.dtype([(name, STEP[name]) for name in STEP.names or () if name not in SINCE_CONTRACT_2])],
}


def header(path: Path) -> np.ndarray:
    """The live header of a trace file, a 0-d record of dtype HEADER mapped read-only.

    Raises:
        OSError: it cannot be read. ValueError: it is too short, or no regular file: a FIFO would be waited for.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ValueError(f"{path} is not a regular file")
        with open(opened, "rb", closefd=False) as file:
            return np.memmap(file, dtype=HEADER, mode="r", shape=())
    finally:
        os.close(opened)


def last_beat_ns(folder: Path) -> int | None:
    """The last heartbeat of all traces in a folder, monotonic; None: there is none. They may come and go meanwhile."""
    beats = []
    for path in Path(folder).glob("*/steps.bin"):
        with suppress(OSError, ValueError):  # it is gone, or not yet whole
            beats.append(int(header(path)["beat_ns"]))
    return max(beats, default=None)


def records(folder: Path, name: str) -> np.ndarray:
    """The whole records of one file of a trace (`name` is a key of LAYOUT), mapped read-only, shape [count];
    those of an earlier layout as a copy in this one.

    Raises:
        FileNotFoundError: the worker never opened its trace.
        ValueError: the file is not a trace of this version.
    """
    path = Path(folder) / f"{name}.bin"
    head = header(path)
    dtype = layout_of(name, int(head["record_bytes"]))
    if head["magic"] != MAGIC or dtype is None:
        raise ValueError(f"{path} is not a trace of this version of innerloop")
    count = int(head["count"])
    if count == 0:
        return np.empty(0, dtype=LAYOUT[name])
    stored = np.memmap(path, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(count,))
    return in_this_layout(name, stored)


def layout_of(name: str, record_bytes: int) -> np.dtype | None:
    """The layout of a trace file's records (`name` is a key of LAYOUT) by their size; None if it is unknown here."""
    layouts = [LAYOUT[name], *EARLIER.get(name, ())]
    return next((layout for layout in layouts if layout.itemsize == record_bytes), None)


def in_this_layout(name: str, stored: np.ndarray) -> np.ndarray:
    """Records of any known layout in this one; the columns that it has gained are missing."""
    dtype = LAYOUT[name]
    if stored.dtype == dtype:
        return stored
    found = np.full(len(stored), MISSING, dtype=dtype)
    for name in stored.dtype.names or ():
        found[name] = stored[name]
    return found
