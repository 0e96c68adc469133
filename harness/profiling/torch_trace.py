"""Reads torch's profiler: traces in Chrome's JSON format, as `torch.profiler.profile.export_chrome_trace` writes them.

Categories (`cat`) as libkineto names them: `kernel`, `gpu_memcpy` and `gpu_memset` ran on a device, `cuda_runtime` and
`cuda_driver` are the calls that launched them (the same `correlation` in both's `args`; all kernels of a CUDA graph
share the one of its launch), `cpu_op` are torch's operators, `user_annotation` the ranges of record_function. Times are
microseconds with three decimals.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import open_regular
from innerloop.harness.profiling.events import (
    CAPTURES,
    LAUNCHES,
    RANGE,
    Events,
    Launches,
    Ran,
    aligned,
    joined,
    kernels,
    operators,
)

STEP, AHEAD = re.compile(r"innerloop/step (\d+)"), re.compile(r"innerloop/ahead (\d+)")
MOST_BYTES = 1 << 29  # of a window's trace; a step of 5000 kernels takes some 4 MB
Damage = (Refused, OSError, EOFError, zlib.error, LookupError, TypeError, AttributeError, ValueError, ArithmeticError,
          RecursionError, MemoryError)  # fmt: skip
ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
CALLS = {"cuda_runtime", "cuda_driver"}


class Arguments(TypedDict, total=False):
    """What an event says beside its times."""

    correlation: int
    stream: int
    device: int


class Event(TypedDict, total=False):
    """One entry of `traceEvents`; one with a duration has the phase "X". `ts` and `dur` are microseconds."""

    ph: str
    cat: str
    name: str
    ts: float
    dur: float
    tid: int
    args: Arguments


def read(paths: Sequence[Path], captured: np.ndarray, device: str) -> Events:
    """The events of all windows on the monotonic clock, joined to their steps; `captured` is of dtype RANGE, `device`
    "cuda" or "cpu".

    Raises:
        ValueError: a file is no such trace, or holds none of the captured steps.
    """
    parts = []
    for path in paths:
        try:
            parts.append(one_window(json.loads(unpacked(path))["traceEvents"], captured, device))
        except Damage as error:
            raise ValueError(f"{path.name} is not a trace of torch's profiler: {str(error)[:200]}") from None
    return joined(parts)


def unpacked(path: Path) -> bytes:
    """The text of a compressed file, of which no more is unpacked than can be a trace.

    Raises:
        ValueError: it is longer. OSError, EOFError, zlib.error: it is no such file.
    """
    with open_regular(path, path.name, MOST_BYTES) as file, gzip.open(file) as packed:
        text = packed.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES} bytes; choose fewer steps with --profiler-steps A:B")
    return text


def one_window(events: Sequence[Event], captured: np.ndarray, device: str) -> Events:
    """One trace: what ran on a GPU, be it nothing that was recorded, or torch's operators on a CPU."""
    timed = [event for event in events if event.get("ph") == "X"]
    ranges, offset = aligned(_ranges(timed, STEP), captured)
    if device == "cuda":
        ahead = _ranges(timed, AHEAD)
        ahead["start_ns"] += offset
        ahead["end_ns"] += offset
        ran = [event for event in timed if event.get("cat") in ON_DEVICE]
        return _kernels(ran, [event for event in timed if event.get("cat") in CALLS], ranges, ahead, offset)
    host = [event for event in timed if event.get("cat") == "cpu_op"]
    start, end = _columns(host, offset)
    threads = np.array([_thread(event) for event in host], dtype=np.int64)
    return operators(start, end, [event["name"] for event in host], threads, ranges)


def _ranges(timed: list[Event], name: re.Pattern[str]) -> np.ndarray:
    """The ranges of that name, its number as `step`: dtype RANGE, by their start."""
    found = [
        (int(match[1]), _thread(event), *_times(event), -1)
        for event in timed
        if event.get("cat") == "user_annotation" and (match := name.fullmatch(event["name"]))
    ]
    return np.sort(np.array(found, dtype=RANGE), order="start_ns")


def _kernels(device: list[Event], calls: list[Event], ranges: np.ndarray, ahead: np.ndarray, offset: int) -> Events:
    seen = {event["args"].get("correlation") for event in device}
    lost = [event for event in launched(calls) if event.get("args", {}).get("correlation") not in seen]
    launches = {event["args"]["correlation"]: event for event in calls if "correlation" in event.get("args", {})}
    start, end = _columns(device, offset)
    by = [launches.get(event["args"].get("correlation", -1)) for event in device]
    ran = Ran(
        start,
        end,
        [event["name"] for event in device],
        np.array([event["args"].get("stream", -1) for event in device], dtype=np.int64),
        np.array([event["args"].get("device", 0) for event in device], dtype=np.int32),
        Launches(
            np.array([-1 if call is None else _times(call)[0] + offset for call in by], dtype=np.int64),
            np.array([-1 if call is None else _thread(call) for call in by], dtype=np.int64),
        ),
    )
    unseen = Launches(_columns(lost, offset)[0], np.array([_thread(event) for event in lost], dtype=np.int64))
    return kernels(ran, ranges, ahead, unseen)


def launched(calls: Sequence[Event]) -> list[Event]:
    """The calls that had something run: launches, but for those that a thread's capture made part of a graph."""
    out: list[Event] = []
    capturing: set[int] = set()
    for event in sorted(calls, key=lambda event: float(event["ts"])):
        if capture := CAPTURES.match(event["name"]):
            (capturing.add if capture[1] == "Begin" else capturing.discard)(_thread(event))
        elif LAUNCHES.match(event["name"]) and _thread(event) not in capturing:
            out.append(event)
    return out


def _columns(events: list[Event], offset: int) -> tuple[np.ndarray, np.ndarray]:
    times = np.array([_times(event) for event in events], dtype=np.int64).reshape(-1, 2) + offset
    return times[:, 0], times[:, 1]


def _times(event: Event) -> tuple[int, int]:
    start = round(float(event["ts"]) * 1000)
    return start, start + round(float(event["dur"]) * 1000)


def _thread(event: Event) -> int:
    return int(event["tid"])
