"""The thread that samples a device, on devices that the test makes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from innerloop.harness.analysis.samples import Samples
from innerloop.harness.telemetry import device as module
from innerloop.harness.telemetry import sampler as sampling
from innerloop.harness.telemetry.device import (
    DEVICE,
    MISSING,
    READ,
    SLOT,
    Device,
    DeviceLost,
    DeviceSampler,
    DeviceTold,
    Process,
    Row,
)
from tests.waiting import PATIENCE_S, Clock, until


class Scripted(Device):
    """Answers as it is told; notes what it was asked, and when."""

    def __init__(self) -> None:
        self.supported = {"power_instant": True}
        self.faults = {"refused": 2}
        self.asked: list[str] = []
        self.listed: list[Process] | None = [Process(os.getpid(), 100)]
        self.answers = True
        self.lost: str | None = None
        self.closed = False

    def facts(self) -> DeviceTold:
        return {
            "index": None,
            "uuid": "GPU-0",
            "name": None,
            "mig": None,
            "driver": None,
            "architecture": None,
            "memory_total_bytes": None,
            "power_limit_w": None,
            "power_default_limit_w": None,
            "max_sm_clock_mhz": None,
            "max_memory_clock_mhz": None,
            "supported": self.supported,
        }

    def fast(self, row: Row) -> bool:
        self.asked.append("fast")
        if self.lost:
            raise DeviceLost(self.lost)
        if self.answers:
            row[SLOT["power_instant_w"]] = 300.0
        return self.answers

    def medium(self, row: Row) -> bool:
        self.asked.append("medium")
        if self.answers:
            row[SLOT["memory_used_bytes"]], row[SLOT["gpu_utilization"]] = 1000, 0.5
        return self.answers

    def slow(self, row: Row) -> None:
        self.asked.append("slow")
        row[SLOT["power_average_w"]] = 290.0

    def processes(self) -> list[Process] | None:
        return self.listed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def device() -> Scripted:
    return Scripted()


def make(device: Scripted, hz: float = 200) -> DeviceSampler:
    return DeviceSampler("gpu0", {"index": 0}, lambda: device, hz)


Live = Callable[..., Samples]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Live:
    """live(sampler, seconds, before): its whole life in this thread, from 100 s on by a clock that only its waiting
    moves; `before` is called with the time of each sample, before it is taken."""

    def make(sampler: DeviceSampler, seconds: float, before: Callable[[float], None] = lambda _: None) -> Samples:
        clock = Clock(100_000_000_000)
        for one in (module, sampling):
            monkeypatch.setattr(one, "time", clock)

        def wait(wait_s: float) -> bool:
            clock.sleep(wait_s)
            before(clock.monotonic())
            if clock.monotonic() >= 100 + seconds:
                sampler._stop.set()
            return sampler._stop.is_set()

        monkeypatch.setattr(sampler._stop, "wait", wait)
        sampler._run(os.getpid())
        return sampler.stop()

    return make


def test_a_row_has_a_place_for_every_column() -> None:
    assert len(READ) == len(MISSING) == len(DEVICE.names or ()) - 2
    assert [SLOT[name] for name in READ] == list(range(len(READ)))


def test_power_is_read_at_every_sample_and_the_rest_less_often(device: Scripted, live: Live) -> None:
    table = live(make(device), 2.25).table
    assert (table["power_instant_w"] == 300).all()
    assert (np.diff(table["time_ns"]) == 5_000_000).all()
    medium, slow = table["memory_used_bytes"] >= 0, ~np.isnan(table["power_average_w"])
    assert (np.diff(table["time_ns"][medium][:-1]) == 100_000_000).all()
    assert np.diff(table["time_ns"][slow]).tolist() == [1_000_000_000, 1_000_000_000, 250_000_000]
    for rows in (table[[0]], table[[-1]]):  # everything is read at both ends
        assert rows["memory_used_bytes"][0] == 1000
        assert rows["memory_worker_bytes"][0] == 100


def test_what_is_constant_is_kept(device: Scripted) -> None:
    sampler = make(device)
    sampler.start(-1)
    until(sampler.ready.is_set)
    assert sampler.shown == module.Shown(300.0, 0.5, 1000)
    sampler.follow(os.getpid())
    found = sampler.stop()
    assert found.source == "gpu0"
    assert found.facts["kind"] == "device"
    assert found.facts["uuid"] == "GPU-0"
    assert found.facts["faults"] == {"refused": 2}
    assert found.table["time_ns"][0] < found.facts["followed_ns"] < found.table["time_ns"][-1]
    [process] = found.facts["processes"]
    assert (process["pid"], process["own"], process["peak_bytes"]) == (os.getpid(), True, 100)
    assert device.closed


def test_before_the_worker_is_named_nobody_is_its_own(device: Scripted) -> None:
    sampler = make(device)
    sampler.start(-1)
    until(sampler.ready.is_set)
    found = sampler.stop()
    assert (found.table["memory_worker_bytes"] == -1).all()
    assert "followed_ns" not in found.facts
    assert not found.facts["processes"][0]["own"]


def test_a_lost_device_ends_its_sampling_and_says_since_when(device: Scripted) -> None:
    sampler = make(device)
    sampler.start(-1)
    until(lambda: len(sampler._rows) > 3)
    device.lost = "GPU is lost"
    until(lambda: device.closed)
    found = sampler.stop()
    assert found.error == "DeviceLost: GPU is lost"
    assert found.facts["missing_reason"] == "GPU is lost"
    assert found.table["time_ns"][-1] < found.facts["missing_from_ns"] < time.monotonic_ns()
    assert (found.table["power_instant_w"] == 300).all()
    assert device.asked[-1] == "fast"  # it is left alone then


def test_silence_is_a_loss_only_when_it_lasts(device: Scripted, live: Live) -> None:
    def fall_silent(now: float) -> None:
        device.answers = not (101 <= now < 104 or 105 <= now < 108 or now >= 110)

    found = live(make(device), 20, fall_silent)
    assert found.facts["missing_reason"] == "no reading succeeded for 3 s"
    assert found.facts["missing_from_ns"] == 110_000_000_000
    assert found.table["time_ns"][-1] == 113_000_000_000
    assert np.isnan(found.table["power_instant_w"][-1])
    assert device.closed


def test_a_device_that_cannot_be_opened_is_missing_from_the_start() -> None:
    def gone() -> Device:
        raise DeviceLost("GPU is lost")

    sampler = DeviceSampler("gpu0", {"index": 0}, gone, 20)
    sampler.start(-1)
    assert sampler.ready.wait(PATIENCE_S)
    found = sampler.stop()
    assert len(found.table) == 0
    assert found.facts["missing_reason"] == "GPU is lost"
    assert found.facts["index"] == 0


def test_a_driver_that_hangs_does_not_hold_up_the_end(device: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerloop.harness.telemetry.sampler.STOP_S", 0.1)
    hanging, go_on = threading.Event(), threading.Event()

    def hang(row: Row) -> bool:
        hanging.set()
        go_on.wait(PATIENCE_S)
        return True

    sampler = make(device)
    sampler.start(-1)
    until(lambda: len(sampler._rows) > 3)
    monkeypatch.setattr(device, "fast", hang)
    assert hanging.wait(PATIENCE_S)
    found = sampler.stop()
    go_on.set()
    assert found.error == "a reading has not returned"
    assert len(found.table) > 3


def test_a_driver_that_lists_no_processes_leaves_the_workers_memory_unknown(device: Scripted) -> None:
    device.listed = None
    sampler = make(device)
    sampler.start(os.getpid())
    until(sampler.ready.is_set)
    found = sampler.stop()
    assert (found.table["memory_worker_bytes"] == -1).all()
    assert found.facts["processes"] == []


def test_where_there_is_no_instant_power_or_utilization_others_are_shown(device: Scripted) -> None:
    sampler = make(device)
    row = list(MISSING)
    row[SLOT["power_average_w"]], row[SLOT["sm_activity"]] = 250.0, 0.25
    sampler._show(row)
    assert sampler.shown == module.Shown(250.0, 0.25, None)
    sampler._show(list(MISSING))
    assert sampler.shown == module.Shown(None, None, None)
