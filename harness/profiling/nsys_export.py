"""Reads an nsys report exported to SQLite (`nsys export --type=sqlite`), by its documented schema.

CUPTI_ACTIVITY_KIND_KERNEL, _MEMCPY and _MEMSET ran on a device; CUPTI_ACTIVITY_KIND_RUNTIME are the calls that launched
them, with the same `correlationId` in the same process (all kernels of a CUDA graph share the one of its launch);
NVTX_EVENTS with `eventType` 59 are push-pop ranges, their text in `text` or, registered, in StringIds by `textId`.
Tables are made only when there is something in them. Times are nanoseconds. globalTid and globalPid hold the process
in the bits from 24 up ("Nsight Systems User Guide", SQLite schema reference).
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import numpy as np

from innerloop.harness.profiling.events import CAPTURES, LAUNCHES, RANGE, Events, Launches, Ran, aligned, kernels

PUSH_POP = 59
STEP, AHEAD = re.compile(r"step (\d+)"), re.compile(r"ahead (\d+)")
PROCESS_BITS = 24
NO_STEPS = (
    "the nsys report has no NVTX range of a step: the package nvtx in the engine's interpreter may be too new for "
    "this nsys (Nsight Systems 2023.4 reads ranges of nvtx 0.2.11 but not of 0.2.13): use a newer nsys or an older nvtx"
)
COPY_KINDS = {1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 5: "AtoA", 6: "AtoD", 7: "DtoA", 8: "DtoD", 10: "PtoP"}


def read(path: Path, captured: np.ndarray) -> Events:
    """The kernels, copies and memsets on the monotonic clock, joined to their steps; `captured` is of dtype RANGE.

    Raises:
        ValueError: the file is no such export, or holds none of the captured steps, or no kernel.
    """
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return _read(db, captured)
        finally:
            db.close()
    except (sqlite3.Error, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError) as error:
        raise ValueError(f"{path.name} is not an SQLite export of nsys: {error}") from None


def _read(db: sqlite3.Connection, captured: np.ndarray) -> Events:
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "NVTX_EVENTS" not in tables:
        raise ValueError(NO_STEPS)
    if len(named := _ranges(db, STEP)) == 0:
        raise ValueError(NO_STEPS)
    ranges, offset = aligned(named, captured)
    ahead = _ranges(db, AHEAD)
    ahead["start_ns"] += offset
    ahead["end_ns"] += offset
    rows: list[tuple] = []
    if "CUPTI_ACTIVITY_KIND_KERNEL" in tables:
        rows += db.execute(
            "SELECT k.start, k.end, s.value, k.streamId, k.deviceId, k.correlationId, k.globalPid"
            " FROM CUPTI_ACTIVITY_KIND_KERNEL k LEFT JOIN StringIds s ON s.id = k.demangledName"
        ).fetchall()
    if "CUPTI_ACTIVITY_KIND_MEMCPY" in tables:
        rows += [
            (start, end, f"Memcpy {COPY_KINDS.get(kind, kind)}", *rest)
            for start, end, kind, *rest in db.execute(
                "SELECT start, end, copyKind, streamId, deviceId, correlationId, globalPid"
                " FROM CUPTI_ACTIVITY_KIND_MEMCPY"
            )
        ]
    if "CUPTI_ACTIVITY_KIND_MEMSET" in tables:
        rows += db.execute(
            "SELECT start, end, 'Memset', streamId, deviceId, correlationId, globalPid FROM CUPTI_ACTIVITY_KIND_MEMSET"
        ).fetchall()
    if not rows:
        raise ValueError("the nsys report has no kernels: nothing ran on a device in the capture range")
    seen = {(pid >> PROCESS_BITS, correlation) for *_, correlation, pid in rows}
    launches: dict[tuple[int, int], tuple[int, int]] = {}
    lost: list[tuple[int, int]] = []
    capturing: set[int] = set()
    if "CUPTI_ACTIVITY_KIND_RUNTIME" in tables:
        for start, thread, correlation, name in db.execute(
            "SELECT r.start, r.globalTid, r.correlationId, s.value FROM CUPTI_ACTIVITY_KIND_RUNTIME r"
            " LEFT JOIN StringIds s ON s.id = r.nameId ORDER BY r.start"
        ):
            key = (thread >> PROCESS_BITS, correlation)
            launches[key] = (start + offset, thread)
            if name is not None and (capture := CAPTURES.match(name)):
                (capturing.add if capture[1] == "Begin" else capturing.discard)(thread)
            elif name is not None and LAUNCHES.match(name) and key not in seen and thread not in capturing:
                lost.append(launches[key])
    unseen = np.array(lost, np.int64).reshape(-1, 2)
    by = [launches.get((pid >> PROCESS_BITS, correlation), (-1, -1)) for *_, correlation, pid in rows]
    columns = list(zip(*rows, strict=True))
    ran = Ran(
        np.array(columns[0], np.int64) + offset,
        np.array(columns[1], np.int64) + offset,
        [name or "unnamed" for name in columns[2]],
        np.array(columns[3], np.int64),
        np.array(columns[4], np.int32),
        Launches(np.array([start for start, _ in by], np.int64), np.array([thread for _, thread in by], np.int64)),
    )
    return kernels(ran, ranges, ahead, Launches(unseen[:, 0], unseen[:, 1]))


def _ranges(db: sqlite3.Connection, name: re.Pattern[str]) -> np.ndarray:
    rows = db.execute(
        "SELECT COALESCE(n.text, s.value), n.globalTid, n.start, n.end FROM NVTX_EVENTS n"
        " LEFT JOIN StringIds s ON s.id = n.textId"
        " WHERE n.eventType = ? AND n.end IS NOT NULL ORDER BY n.start",
        (PUSH_POP,),
    )
    found = [
        (int(match[1]), thread, start, end, -1)
        for text, thread, start, end in rows
        if text is not None and (match := name.fullmatch(text))
    ]
    return np.array(found, dtype=RANGE)
