"""An SQLite export of the documented schema, made by hand, joined to a pass's steps.

Nsight Systems User Guide, "SQLite Schema Reference": tables are created only when they have rows, times are
nanoseconds of the session, globalTid and globalPid hold the process from bit 24 up.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.profiling import events, nsys_export

PID, MAIN, LAUNCHER = 4242, 4242, 4300
SCHEMA = """
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE NVTX_EVENTS (
    start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER, category INTEGER, color INTEGER,
    text TEXT, globalTid INTEGER, endGlobalTid INTEGER, textId INTEGER, domainId INTEGER, uint64Value INTEGER
);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (
    start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER,
    correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL, callchainId INTEGER
);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (
    start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL,
    greenContextId INTEGER, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
    demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, mangledName INTEGER, graphNodeId INTEGER,
    graphId INTEGER
);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (
    start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL,
    streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, bytes INTEGER NOT NULL,
    copyKind INTEGER NOT NULL
);
"""
US = 1000


class Export:
    """Writes one row at a time; times in microseconds."""

    def __init__(self, path: Path, schema: str = SCHEMA) -> None:
        self.path, self._db, self._names = path, sqlite3.connect(path), 0
        self._db.executescript(schema)

    def string(self, value: str) -> int:
        self._names += 1
        self._db.execute("INSERT INTO StringIds VALUES (?, ?)", (self._names, value))
        return self._names

    def range(self, text: str, start: float, end: float | None, *, registered: bool = False, kind: int = 59) -> None:
        row: dict[str, Any] = {"start": start * US, "end": None if end is None else end * US, "eventType": kind}
        row |= {"textId": self.string(text)} if registered else {"text": text}
        self._insert("NVTX_EVENTS", globalTid=PID << 24 | MAIN, domainId=0, **row)

    def launch(
        self, correlation: int, start: float, thread: int = MAIN, pid: int = PID, call: str = "cudaLaunchKernel_v7000"
    ) -> None:
        self._insert(
            "CUPTI_ACTIVITY_KIND_RUNTIME", start=start * US, end=start * US + 500, eventClass=0,
            globalTid=pid << 24 | thread, correlationId=correlation, nameId=self.string(call), returnValue=0,
        )  # fmt: skip

    def kernel(
        self, name: str, correlation: int, start: float, end: float, pid: int = PID, node: int | None = None
    ) -> None:
        code = self.string(name)
        self._insert(
            "CUPTI_ACTIVITY_KIND_KERNEL", start=start * US, end=end * US, deviceId=0, contextId=1, streamId=7,
            correlationId=correlation, globalPid=pid << 24, demangledName=code, shortName=code, graphNodeId=node,
        )  # fmt: skip

    def copy(self, kind: int, correlation: int, start: float, end: float) -> None:
        self._insert(
            "CUPTI_ACTIVITY_KIND_MEMCPY", start=start * US, end=end * US, deviceId=0, contextId=1, streamId=7,
            correlationId=correlation, globalPid=PID << 24, bytes=64, copyKind=kind,
        )  # fmt: skip

    def done(self) -> Path:
        self._db.commit()
        self._db.close()
        return self.path

    def _insert(self, table: str, **row) -> None:
        marks = ", ".join("?" for _ in row)
        self._db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


@pytest.fixture
def export(tmp_path):
    return Export(tmp_path / "report.sqlite")


CAPTURED = events.captured(
    {
        "columns": ["step", "start_ns", "end_ns", "window"],
        "rows": [[200, 9_000_100 * US, 9_000_200 * US, 0], [201, 9_000_300 * US, 9_000_400 * US, 0]],
    }
)


def steps_by_name(path: Path) -> dict[str, int]:
    found = nsys_export.read(path, CAPTURED)
    return {found.names[row["name"]]: int(row["step"]) for row in found.table}


def test_a_batch_launched_ahead_has_the_step_that_it_comes_out_of(export):
    export.range("step 200", 100, 200)
    export.range("ahead 1", 110, 140)
    export.range("step 201", 300, 400)
    export.range("ahead 1", 310, 340)
    export.launch(1, 120)
    export.kernel("nvjet_tst_64x8", 1, 210, 290)
    export.launch(2, 180)
    export.copy(2, 2, 190, 191)  # of the tokens that step 200 waited for
    assert steps_by_name(export.done()) == {"nvjet_tst_64x8": 201, "Memcpy DtoH": 200}


def test_each_step_gets_its_kernels(export):
    export.range("step 200", 100, 200)
    export.range("step 201", 300, 400, registered=True)  # text by StringIds, as registered strings are kept
    export.range("schedule", 110, 120)
    export.range("step 200: prefill 12, decode 3", 201, None, kind=34)  # a mark
    export.launch(1, 150)
    export.kernel("nvjet_tst_64x8", 1, 160, 170)
    export.launch(2, 195)
    export.kernel("flash::flash_fwd_splitkv_kernel", 2, 210, 290)  # after its step has returned
    export.launch(3, 310)
    export.kernel("nvjet_first_of_graph", 3, 320, 330, node=1)  # both of one graph: one launch, one correlation
    export.kernel("nvjet_second_of_graph", 3, 410, 420, node=2)
    export.launch(4, 250)
    export.copy(1, 4, 330, 331)  # launched between two steps
    export.launch(5, 260, thread=LAUNCHER)
    export.kernel("void turbomind::gemm::gemm_kernel", 5, 300, 301)  # by an engine's own thread
    assert steps_by_name(export.done()) == {
        "nvjet_tst_64x8": 200,
        "flash::flash_fwd_splitkv_kernel": 200,
        "nvjet_first_of_graph": 201,
        "nvjet_second_of_graph": 201,
        "Memcpy HtoD": -1,
        "void turbomind::gemm::gemm_kernel": 200,
    }


def test_times_are_on_the_worker_s_clock(export):
    export.range("step 200", 100, 200)
    export.range("step 201", 300, 400)
    export.launch(1, 150)
    export.kernel("nvjet", 1, 160, 170)
    found = nsys_export.read(export.done(), CAPTURED)
    assert found.table["start_ns"].tolist() == [9_000_160 * US]
    assert found.table["self_ns"].tolist() == [10 * US]
    assert found.ranges["start_ns"].tolist() == [9_000_100 * US, 9_000_300 * US]


def test_a_correlation_is_that_of_its_own_process(export):
    export.range("step 200", 100, 200)
    export.range("step 201", 300, 400)
    export.launch(1, 150)
    export.launch(1, 350, thread=5001, pid=5000)  # another rank, with the same number
    export.kernel("nvjet_rank_0", 1, 160, 170)
    export.kernel("nvjet_rank_1", 1, 360, 370, pid=5000)
    assert steps_by_name(export.done()) == {"nvjet_rank_0": 200, "nvjet_rank_1": 201}


def test_a_kernel_without_its_launch_is_joined_by_its_time_and_counted(export):
    export.range("step 200", 100, 200)
    export.range("step 201", 300, 400)
    export.kernel("nvjet", 77, 310, 320)
    found = nsys_export.read(export.done(), CAPTURED)
    assert found.table["step"].tolist() == [201]
    assert found.by_time == 1


def test_a_launch_of_which_nothing_was_recorded_leaves_its_step_out(export):
    export.range("step 200", 100, 200)
    export.range("step 201", 300, 400)
    export.launch(1, 120, call="cudaGraphLaunch_v10000")
    export.launch(2, 130, call="cudaEventRecord_v3020")  # has nothing run
    export.launch(3, 320)
    export.kernel("nvjet", 3, 330, 340)
    found = nsys_export.read(export.done(), CAPTURED)
    assert (found.lost, found.left_out) == (1, 1)
    assert found.ranges["step"].tolist() == [201]


def test_a_report_without_kernels_is_said_to_have_none(export):
    export.range("step 200", 100, 200)
    with pytest.raises(ValueError, match="no kernel"):
        nsys_export.read(export.done(), CAPTURED)


def test_a_report_of_other_steps_is_not_joined(export):
    export.range("step 7", 100, 200)
    export.kernel("nvjet", 1, 110, 120)
    with pytest.raises(ValueError, match="none of the steps"):
        nsys_export.read(export.done(), CAPTURED)


def test_what_is_no_export_is_said_to_be_none(tmp_path):
    (tmp_path / "report.sqlite").write_text("nsys failed")
    with pytest.raises(ValueError, match="not an SQLite export"):
        nsys_export.read(tmp_path / "report.sqlite", CAPTURED)
    with pytest.raises(ValueError, match="not an SQLite export"):
        nsys_export.read(tmp_path / "none.sqlite", CAPTURED)
    with pytest.raises(ValueError, match="no NVTX range of a step"):
        nsys_export.read(Export(tmp_path / "bare.sqlite", "CREATE TABLE StringIds (id, value)").done(), CAPTURED)


def test_a_report_whose_ranges_nsys_did_not_understand_says_what_to_do(export):
    export.kernel("nvjet", 1, 110, 120)
    export.range("another tool's", 100, 200)
    with pytest.raises(ValueError, match="older nvtx"):
        nsys_export.read(export.done(), CAPTURED)
