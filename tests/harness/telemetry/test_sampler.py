"""The thread that reads one source at a fixed rate."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from innerloop.harness.telemetry import sampler as module
from innerloop.harness.telemetry.sampler import BLOCK_ROWS, TIMES, Rows, Sampler


class Counting(Sampler):
    source = "counting"
    dtype = np.dtype([*TIMES, ("value", "<i8")])

    def __init__(self, interval_s: float, fail_at: int | None = None) -> None:
        super().__init__(interval_s)
        self.reads = 0
        self.closed = False
        self.fail_at = fail_at

    def open(self, pid: int) -> None:
        self.facts["pid"] = pid

    def read(self) -> tuple[Any, ...]:
        if self.reads == self.fail_at:
            raise OSError("the device is gone")
        self.reads += 1
        return (self.reads,)

    def close(self) -> None:
        self.closed = True


def wait_for(sampler: Counting, reads: int) -> None:
    while sampler.reads < reads:
        time.sleep(0.001)


def test_rows_come_back_as_they_were_added_over_many_blocks() -> None:
    dtype = np.dtype([*TIMES, ("share", "<f8"), ("count", "<i4")])
    rows = Rows(dtype)
    assert (len(rows), rows.last, len(rows.table())) == (0, None, 0)
    added = [(k, 2 * k, k / 3, -k) for k in range(2 * BLOCK_ROWS + 1)]
    for row in added:
        rows.append(*row)
    assert rows.table().tolist() == added
    assert rows.last is not None
    assert rows.last.tolist() == added[-1]
    assert rows.table().dtype == dtype


def test_it_samples_until_it_is_stopped_and_once_more_then() -> None:
    sampler = Counting(0.005)
    sampler.start(42)
    wait_for(sampler, 3)
    reads = sampler.reads
    samples = sampler.stop()
    assert len(samples.table) == sampler.reads > reads
    assert samples.table["value"].tolist() == list(range(1, len(samples.table) + 1))
    assert (np.diff(samples.table["time_ns"]) > 0).all()
    assert (samples.table["late_ns"] >= 0).all()
    assert (samples.facts, samples.error, sampler.closed) == ({"pid": 42}, None, True)


def test_a_long_interval_does_not_delay_the_stop() -> None:
    sampler = Counting(3600)
    sampler.start(1)
    wait_for(sampler, 1)
    assert len(sampler.stop().table) == 2


def test_stopping_twice_or_before_the_start_is_harmless() -> None:
    sampler = Counting(0.01)
    assert len(sampler.stop().table) == 0
    sampler = Counting(0.01)
    sampler.start(1)
    once = sampler.stop().table
    assert len(once) >= 1
    assert sampler.stop().table.tolist() == once.tolist()


def test_an_error_ends_the_sampling_and_is_kept() -> None:
    sampler = Counting(0.001, fail_at=2)
    sampler.start(1)
    wait_for(sampler, 2)
    assert sampler._thread is not None
    sampler._thread.join()
    samples = sampler.stop()
    assert samples.error == "OSError: the device is gone"
    assert len(samples.table) == 2
    assert sampler.closed


def test_the_newest_sample_can_be_read_while_it_runs() -> None:
    sampler = Counting(0.001)
    assert sampler.latest is None
    sampler.start(1)
    wait_for(sampler, 2)
    latest = sampler.latest
    sampler.stop()
    assert latest is not None
    assert latest["value"] >= 1


def test_missed_samples_are_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Counting(0.01)
    clock = iter([0, 0, 0, 10_000_000, 47_000_000, 50_000_000, 50_500_000, 60_000_000, 60_000_000])
    monkeypatch.setattr("innerloop.harness.telemetry.sampler.time.monotonic_ns", lambda: next(clock))
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 4

    monkeypatch.setattr(sampler._stop, "wait", wait)
    sampler._pace()
    # planned 0, 10, then (37 ms late: 20, 30 and 40 are left out) 50, then 60, at which it is stopped
    assert sampler._rows.table()[["time_ns", "late_ns"]].tolist() == [
        (0, 0),
        (47_000_000, 37_000_000),
        (50_500_000, 500_000),
        (60_000_000, 0),
    ]


@pytest.mark.parametrize("interval", [0, -1])
def test_an_interval_that_is_not_positive_is_an_error(interval: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Counting(interval)


def test_records_of_a_long_run_are_written_out_and_are_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "HELD_BLOCKS", 2)
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    dtype = np.dtype([*TIMES, ("value", "<f8")])
    held, long = Rows(dtype), Rows(dtype)
    long.folder = tmp_path
    for k in range(57):
        held.append(k, 0, k / 2)
        long.append(k, 0, k / 2)
        assert long.last == held.last
    assert len(long._blocks) <= 2
    assert long.table().tolist() == held.table().tolist()
    assert long.table().tolist() == held.table().tolist()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_takes_no_sample(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "HELD_BLOCKS", 2)
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    own, calls = os.pwrite, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return own(*arguments)

    monkeypatch.setattr(os, "pwrite", full)
    rows = Rows(np.dtype([*TIMES, ("value", "<f8")]))
    rows.folder = tmp_path
    for k in range(95):
        rows.append(k, 0, k / 2)
    assert rows.table()["value"].tolist() == [k / 2 for k in range(95)]
