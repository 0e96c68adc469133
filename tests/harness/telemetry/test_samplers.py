"""Which samplers a run has, and what they need."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.harness.machine.gpus import visible_gpus
from innerloop.harness.telemetry import samplers as module
from innerloop.harness.telemetry.samplers import Samplers, for_run, why_none
from tests.conftest import Play
from tests.harness.machines import CPU, GPU
from tests.nvml.devices import h100, mig_slice
from tests.nvml.scenario import Scenario
from tests.waiting import PATIENCE_S, until

TWO = replace(GPU, gpus=(GPU.gpus[0], replace(GPU.gpus[0], index=3, uuid="GPU-3")))


@pytest.fixture(autouse=True)
def no_powercap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "zones", lambda: {"package": [], "dram": []})


@pytest.fixture(autouse=True)
def time_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READY_S", PATIENCE_S)


@pytest.mark.parametrize(
    ("device", "tensor_parallel", "choice", "sources"),
    [
        ("cuda", 1, "used", ["gpu0"]),
        ("cuda", 2, "used", ["gpu0", "gpu3"]),
        ("cuda", 1, "all", ["gpu0", "gpu3"]),
        ("cpu", 1, "used", []),
        ("cpu", 1, "all", ["gpu0", "gpu3"]),
    ],
)
def test_the_devices_that_the_engine_runs_on_are_sampled(
    device: str, tensor_parallel: int, choice: str, sources: list[str]
) -> None:
    made = for_run(device, tensor_parallel, TWO, choice, 20)
    assert [one.source for one in made.devices] == sources
    assert made.note is None


def test_a_slice_has_a_source_of_its_own() -> None:
    gpu = replace(GPU.gpus[0], uuid="MIG-12345678-9abc")
    assert module.device_sampler(gpu, 20).source == "gpu0-MIG-12345678-9abc"


def test_turned_off_nothing_is_sampled_and_it_is_said() -> None:
    made = for_run("cuda", 1, TWO, "off", 20)
    assert made.devices == []
    assert made.note == "no device telemetry: it was turned off"


def test_the_rate_is_that_which_was_asked_for() -> None:
    [one] = for_run("cuda", 1, TWO, "used", 200).devices
    assert one.interval_s == 0.005


def test_without_a_driver_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    made = for_run("cpu", 1, CPU, "used", 20)
    assert made.note == "no device telemetry: the package nvidia-ml-py is not installed"
    assert made.all == [made.host]


@pytest.mark.parametrize(
    ("fields", "hide", "reason"),
    [
        ({"init_error": 9}, False, "the NVIDIA driver cannot be used: Driver Not Loaded"),
        ({}, True, "CUDA_VISIBLE_DEVICES hides all devices"),
    ],
)
def test_why_there_is_no_device(
    play: Play, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], hide: bool, reason: str
) -> None:
    play(Scenario((h100(),), **fields))
    if hide:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == ()
    assert why_none() == reason


def test_a_driver_without_devices_says_so(play: Play) -> None:
    play(Scenario(()))
    assert why_none() == "the NVIDIA driver found no devices"


def test_without_devices_measuring_idle_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("nothing to wait for"))
    Samplers(note="none").measure_idle()


def test_idle_power_is_measured_before_the_worker_is_named(
    play: Play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = h100(0), h100(1)
    play(Scenario(parts))
    made = Samplers(visible_gpus(), hz=100)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        until(lambda: all(len(one._rows) >= 3 for one in made.devices))

    monkeypatch.setattr(
        module, "time", SimpleNamespace(monotonic=time.monotonic, monotonic_ns=time.monotonic_ns, sleep=sleep)
    )
    made.measure_idle()
    assert slept == [module.IDLE_S]
    made.follow((os.getpid(),), tmp_path)
    tables = [one.stop() for one in made.all]
    assert [one.source for one in tables] == ["host", "gpu0", "gpu1"]
    for part, one in zip(parts, tables[1:], strict=True):
        assert one.error is None
        assert one.facts["uuid"] == part.uuid
        assert one.facts["followed_ns"] > one.facts["idle_until_ns"] > one.table["time_ns"][2]


def test_a_device_that_is_not_there_does_not_hold_up_the_run(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    part = h100()
    play(Scenario((part,)))
    [gpu] = visible_gpus()
    made = Samplers((replace(gpu, uuid="GPU-gone"),))
    begun = time.monotonic()
    made.measure_idle()
    assert time.monotonic() - begun < module.READY_S
    [found] = [one.stop() for one in made.devices]
    assert found.error is not None
    assert found.facts["missing_reason"] == "Not Found"


def test_the_cpus_energy_is_sampled_where_it_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "zones", lambda: {"package": [Path("/somewhere")], "dram": []})
    made = Samplers(note="none")
    assert [one.source for one in made.all] == ["host", "cpu"]


def test_slices_named_by_uuid_are_sampled_apart(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.1)
    first, second = mig_slice(0), mig_slice(1)
    play(Scenario((h100(numbers={"mig": 1}, slices=(first, second)),)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{first.uuid},{second.uuid}")
    made = Samplers(visible_gpus(), hz=50)
    made.measure_idle()
    found = [one.stop() for one in made.devices]
    assert [one.facts["uuid"] for one in found] == [first.uuid, second.uuid]
    assert len({one.source for one in found}) == 2
