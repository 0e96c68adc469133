"""What a profiler saw, whichever it was: one table of kernels, copies or operators, joined to the pass's steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerloop.harness.analysis.kernel_classes import CLASSES, class_of, nested_class
from innerloop.harness.analysis.nesting import nest

EVENT = np.dtype(
    [
        ("start_ns", "<i8"),  # monotonic
        ("end_ns", "<i8"),
        ("self_ns", "<i8"),  # without what ran inside it; of a kernel its duration
        ("step", "<i4"),  # number of its record in the pass's trace, -1 if it belongs to none
        ("name", "<i4"),  # index into the names
        ("class_", "<i1"),  # index into CLASSES
        ("lane", "<i8"),  # CUDA stream, or thread
        ("device", "<i4"),  # -1: the host
        ("depth", "<i2"),  # of nesting: 0 inside no other operator
    ]
)
RANGE = np.dtype([("step", "<i4"), ("thread", "<i8"), ("start_ns", "<i8"), ("end_ns", "<i8"), ("window", "<i4")])
FILE = "kernels.parquet"
# Calls that have something run on a device; functions of the host have not.
LAUNCHES = re.compile(r"cudaLaunch(?!HostFunc)|cuLaunch(?:Cooperative)?Kernel|c(?:uda|u)GraphLaunch")
CAPTURES = re.compile(r"c(?:uda|u)Stream(Begin|End)Capture")  # what is launched in between becomes part of a graph
WINDOW_STRIDE = 1 << 16  # more than a window has steps


@dataclass(frozen=True, slots=True)
class Events:
    """`table`: dtype EVENT [events], `names` their names, `ranges`: dtype RANGE, one a captured call of step.

    `device` is "cuda" (kernels, copies, memsets) or "cpu" (operators). `by_time` counts the events whose launch was
    not recorded, so that their step was found by their own time. Steps whose batch was launched before the profiler
    looked have no range, nor have the `left_out` steps of `lost` launches: those of which nothing was seen on the
    device, since the profiler lost its record.
    """

    table: np.ndarray
    names: tuple[str, ...]
    ranges: np.ndarray
    device: str
    by_time: int = 0
    lost: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Launches:
    """Calls that had something run on a device: when (int64, ns) and by which thread; both -1 where it is not known."""

    time_ns: np.ndarray
    thread: np.ndarray


@dataclass(frozen=True, slots=True)
class Ran:
    """What ran on devices: kernels, copies and memsets, [events]. Times are int64 ns."""

    start_ns: np.ndarray
    end_ns: np.ndarray
    names: Sequence[str]
    stream: np.ndarray
    device: np.ndarray
    launches: Launches  # the call of each


def kernels(ran: Ran, ranges: np.ndarray, ahead: np.ndarray | None = None, lost: Launches | None = None) -> Events:
    """What ran on devices, by steps. `lost` are the launches of which nothing was seen: the device was not idle then,
    but what it did is not known.

    `ahead` (dtype RANGE) are the calls that launched a batch, of those engines that say; their `step` is how many steps
    later the batch came out. With asynchronous scheduling that is not the step in which it was launched, and the
    make-up and wall time of a step are those of the batch that comes out of it.
    """
    table = _table(ran.start_ns, ran.end_ns, ran.names, ran.stream)
    table["self_ns"] = ran.end_ns - ran.start_ns
    table["device"] = ran.device
    launch = ran.launches.time_ns
    unknown = launch < 0
    thread = np.where(unknown, -1, ran.launches.thread)
    table["step"] = steps_of(np.where(unknown, ran.start_ns, launch), thread, ranges)
    gone = np.empty(0, np.int32) if lost is None else steps_of(lost.time_ns, lost.thread, ranges)
    if ahead is not None and ahead["step"].any():
        table["step"] += later(table["step"], launch, thread, ahead)
        if lost is not None:
            gone += later(gone, lost.time_ns, lost.thread, ahead)
        begun = steps_of(ahead["start_ns"], ahead["thread"], ranges)
        ranges = ranges[np.isin(ranges["step"], (begun + ahead["step"])[begun >= 0])]
    codes, kept = _codes(ran.names)
    table["name"] = codes
    table["class_"] = np.array([CLASSES.index(class_of(name)) for name in kept], dtype=np.int8)[codes]
    seen = without(ranges, gone)
    left_out = len(np.setdiff1d(ranges["step"], seen["step"]))
    return Events(table, kept, seen, "cuda", int(unknown.sum()), int(np.isin(gone, ranges["step"]).sum()), left_out)


def later(step: np.ndarray, moment_ns: np.ndarray, thread: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """How many steps after `step` what was launched at each moment comes out: int32, 0 where there is no step."""
    found = np.maximum(steps_of(moment_ns, thread, ahead), 0) * np.isin(thread, ahead["thread"])
    return np.where(step >= 0, found, 0).astype(np.int32)


def without(ranges: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The ranges of other steps than these, by their start; what lies on either side of one is a window of its own."""
    out = np.sort(ranges, order="start_ns")
    gone = np.isin(out["step"], steps)
    out["window"] = out["window"] * WINDOW_STRIDE + np.cumsum(gone)
    return out[~gone]


def operators(
    start_ns: np.ndarray, end_ns: np.ndarray, names: Sequence[str], thread: np.ndarray, ranges: np.ndarray
) -> Events:
    """Operators of the host, with their self times by the nesting on each thread."""
    table = _table(start_ns, end_ns, names, thread)
    table["device"] = -1
    parent, table["depth"], table["self_ns"], order = nest(table["start_ns"], table["end_ns"], thread)
    table["step"] = steps_of(table["start_ns"], thread, ranges)
    codes, kept = _codes(names)
    table["name"] = codes
    found: list[str] = [""] * len(table)
    for index in order:  # parents come before their children
        found[index] = nested_class(names[index], found[parent[index]] if parent[index] >= 0 else None)
    table["class_"] = [CLASSES.index(name) for name in found]
    return Events(table, kept, ranges, "cpu")


def steps_of(moment_ns: np.ndarray, thread: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """The step in whose range each moment of a thread lies: int32, -1 for none.

    On a thread that steps, a moment between two ranges belongs to neither. Any other thread works for the step that
    began last, also after the call of step has returned.
    """
    out = np.full(len(moment_ns), -1, dtype=np.int32)
    if len(ranges) == 0:
        return out
    ordered = np.sort(ranges, order="start_ns")
    stepping = np.unique(ordered["thread"])
    for one in stepping:
        own = ordered[ordered["thread"] == one]
        mine = thread == one
        place = np.searchsorted(own["start_ns"], moment_ns[mine], side="right") - 1
        inside = (place >= 0) & (moment_ns[mine] < own["end_ns"][place])
        out[mine] = np.where(inside, own["step"][place], -1)
    others = ~np.isin(thread, stepping)
    place = np.searchsorted(ordered["start_ns"], moment_ns[others], side="right") - 1
    out[others] = np.where(place >= 0, ordered["step"][place], -1)
    return out


def write(path: Path, events: Events) -> None:
    """Writes the table as Parquet, names and classes as words; null is a step that there is none of."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = events.table
    columns: dict[str, pa.Array] = {
        name: pa.array(np.ascontiguousarray(table[name])) for name in ("start_ns", "end_ns", "self_ns", "lane", "depth")
    }
    for name in ("step", "device"):
        values = np.ascontiguousarray(table[name])
        columns[name] = pa.array(values, mask=values < 0)
    columns["name"] = pa.DictionaryArray.from_arrays(pa.array(table["name"]), pa.array(events.names, pa.string()))
    columns["class"] = pa.DictionaryArray.from_arrays(pa.array(table["class_"]), pa.array(CLASSES))
    pq.write_table(pa.table(columns), path, compression="zstd")


def joined(parts: Sequence[Events]) -> Events:
    """The events of several windows as one."""
    names: dict[str, int] = {}
    tables = []
    for part in parts:
        codes = np.array([names.setdefault(name, len(names)) for name in part.names], dtype=np.int32)
        table = part.table.copy()
        if len(table):
            table["name"] = codes[table["name"]]
        tables.append(table)
    return Events(
        np.concatenate(tables) if tables else np.empty(0, EVENT),
        tuple(names),
        np.concatenate([part.ranges for part in parts]) if parts else np.empty(0, RANGE),
        "cuda" if any(part.device == "cuda" for part in parts) else "cpu",
        sum(part.by_time for part in parts),
        sum(part.lost for part in parts),
        sum(part.left_out for part in parts),
    )


def captured(document: Mapping[str, list]) -> np.ndarray:
    """The worker's captured.json as ranges, whose thread is not known: dtype RANGE.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    rows = np.array(document["rows"], dtype=np.int64).reshape(-1, len(document["columns"]))
    out = np.zeros(len(rows), RANGE)
    for place, name in enumerate(document["columns"]):
        out[name] = rows[:, place]
    return out


def aligned(ranges: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, int]:
    """The profiler's own ranges on the monotonic clock, and the nanoseconds that were added.

    Both are of dtype RANGE. A step's calls are matched in their order. The offset is the median over all of them: the
    worker reads its clock just before each range is opened.

    Raises:
        ValueError: they have no step in common.
    """
    places: dict[int, list] = {}
    for row in known:
        places.setdefault(int(row["step"]), []).append(row)
    offsets, windows = [], []
    for row in ranges:
        waiting = places.get(int(row["step"]))
        match = waiting.pop(0) if waiting else None
        windows.append(-1 if match is None else match["window"])
        if match is not None:
            offsets.append(int(match["start_ns"]) - int(row["start_ns"]))
    if not offsets:
        raise ValueError("the profiler's output has none of the steps that the worker captured")
    offset = int(np.median(offsets))
    out = ranges.copy()
    out["start_ns"] += offset
    out["end_ns"] += offset
    out["window"] = windows
    return out, offset


def _table(start_ns: np.ndarray, end_ns: np.ndarray, names: Sequence[str], lane: np.ndarray) -> np.ndarray:
    table = np.zeros(len(names), EVENT)
    table["start_ns"], table["end_ns"], table["lane"] = start_ns, end_ns, lane
    return table


def _codes(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int32)
    return codes, tuple(known)
