"""`harness.watch` on machines with played devices, with a broken driver, and with none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import preloaded
from tests.nvml.devices import GIB, HW_THERMAL, SW_POWER_CAP, h100, mig_slice, p100
from tests.nvml.library import NAME, variables
from tests.nvml.scenario import NEVER, Cells, Event, Fault, Process, Scenario, constant
from tests.real import ROOT

pytestmark = pytest.mark.slow

DRIVER_MISMATCH, GPU_IS_LOST = 18, 15


def environment(library: Path, scenario: Scenario, folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables(library, scenario, folder / "scenario.txt"), **more}


def watch(library: Path, scenario: Scenario, folder: Path, *arguments: str, **more: str) -> str:
    """What it prints; nothing may go to stderr, and it must succeed."""
    done = preloaded.run("harness.watch", *arguments, cwd=folder, env=environment(library, scenario, folder, **more))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def once(library: Path, scenario: Scenario, folder: Path, **more: str) -> dict[str, Any]:
    return json.loads(watch(library, scenario, folder, "--once", "--json", **more))


def test_a_sample_tells_what_every_device_does(nvml_library: Path, tmp_path: Path) -> None:
    own = Process(os.getpid(), 3 * GIB)
    events = (Event(SW_POWER_CAP), Event(HW_THERMAL))
    scenario = Scenario((h100(0, constant(321), processes=(own, Process(4_000_000, -1)), events=events), p100(1)))
    found = once(nvml_library, scenario, tmp_path)
    new, old = found["devices"]
    assert found["note"] is None
    expected = {
        "index": 0,
        "uuid": scenario.devices[0].uuid,
        "name": "NVIDIA H100 80GB HBM3",
        "mig": None,
        "driver": "580.65.06",
        "power_w": 321,
        "power_average_w": 321,
        "power_limit_w": 700,
        "memory_used_bytes": GIB,
        "memory_total_bytes": 80 * GIB,
        "utilization": 0.9,
        "memory_utilization": 0.5,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "temperature_c": 50,
        "memory_temperature_c": 60,
        "sm_activity": pytest.approx(0.8),
        "tensor_activity": pytest.approx(0.3),
        "dram_bandwidth": pytest.approx(0.7),
        "event_reasons": ["sw_power_cap", "hw_thermal_slowdown"],
        "lost": None,
    }
    assert {name: new[name] for name in expected} == expected
    with open(f"/proc/{os.getpid()}/comm") as comm:
        me = {"pid": os.getpid(), "name": comm.read().strip(), "memory_bytes": 3 * GIB}
    assert new["processes"] == [me, {"pid": 4_000_000, "name": None, "memory_bytes": None}]
    silent = ("power_w", "energy_j", "memory_temperature_c", "sm_activity", "tensor_activity", "dram_bandwidth")
    assert [old[name] for name in silent] == [None] * len(silent)
    assert (old["power_average_w"], old["event_reasons"], old["processes"]) == (100, [], [])
    assert 0 <= found["host"]["busy_share"] <= 1
    assert found["host"]["available_bytes"] > 0


def test_a_slice_can_be_watched(nvml_library: Path, tmp_path: Path) -> None:
    part = mig_slice(0, constant(5 * GIB))
    scenario = Scenario((h100(0), h100(1, constant(250), numbers={"mig": 1}, slices=(part,))))
    [device] = once(nvml_library, scenario, tmp_path, CUDA_VISIBLE_DEVICES=part.uuid)["devices"]
    assert (device["uuid"], device["mig"]["parent_uuid"]) == (part.uuid, scenario.devices[1].uuid)
    assert (device["memory_used_bytes"], device["memory_total_bytes"]) == (5 * GIB, 40 * GIB)
    assert (device["power_w"], device["utilization"]) == (250, None)
    assert device["sm_activity"] == pytest.approx(0.6)


def test_the_table_is_for_people(nvml_library: Path, tmp_path: Path) -> None:
    scenario = Scenario((h100(0, constant(321), events=(Event(SW_POWER_CAP),)), p100(1)))
    lines = watch(nvml_library, scenario, tmp_path, "--once", COLUMNS="80").splitlines()
    assert "host: CPU" in lines[0]
    assert all(len(line) <= 80 and "…" not in line for line in lines)
    [new] = [line for line in lines if line.startswith("0 ")]
    for word in ("321 W", "90%", "80%", "30%", "70%", "1.00 GiB / 80.0 GiB", "MHz", "50 °C"):
        assert word in new
    [old] = [line for line in lines if line.startswith("1 ")]
    assert old.split()[:7] == ["1", "100", "W", "90%", "-", "-", "-"]
    about = {line[0]: line for line in lines if line[1:3] == ": "}
    assert "NVIDIA H100 80GB HBM3" in about["0"]
    assert "sw_power_cap" in about["0"]
    assert "Tesla P100-PCIE-16GB" in about["1"]


def test_it_goes_on_when_a_device_is_lost_and_until_it_is_interrupted(nvml_library: Path, tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells")
    moment = cells.new(NEVER)
    scenario = Scenario((h100(0), h100(1, faults=(Fault("*", GPU_IS_LOST, start=moment),))), cells)
    own = environment(nvml_library, scenario, tmp_path)
    with preloaded.Command("harness.watch", "--json", "--rate", "20", cwd=tmp_path, env=own) as going:
        assert going.stdout is not None
        samples = (json.loads(line) for line in going.stdout)
        assert [device["lost"] for device in next(samples)["devices"]] == [None, None]
        moment.set(0)
        [whole, lost] = next(one for one in samples if one["devices"][1]["lost"])["devices"]
        going.send_signal(signal.SIGINT)
        rest = list(samples)
        assert going.stderr is not None
        assert going.stderr.read() == "innerloop: interrupted by SIGINT\n"
    assert going.returncode == -signal.SIGINT  # a shell says 130
    assert "lost" in lost["lost"].lower()
    assert lost["power_w"] is lost["memory_used_bytes"] is lost["processes"] is None
    assert whole["power_w"] == 100
    assert all(one["devices"][0]["power_w"] == 100 for one in rest)


def test_a_device_that_is_lost_from_the_start_is_said_to_be(nvml_library: Path, tmp_path: Path) -> None:
    gone = (Fault("*", GPU_IS_LOST),)
    found = once(nvml_library, Scenario((h100(0, faults=gone),)), tmp_path)
    assert found["devices"] is None
    assert "lost" in found["note"].lower()


def test_without_a_driver_the_host_is_still_shown(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()  # nothing that the loader can load
    found = once(tmp_path, Scenario(()), tmp_path)
    assert found["devices"] is None
    assert found["note"] == "no devices: no NVIDIA driver on this machine"
    assert found["host"]["available_bytes"] > 0
    shown = watch(tmp_path, Scenario(()), tmp_path, "--once").splitlines()
    assert len(shown) == 2
    assert shown[1] == "no devices: no NVIDIA driver on this machine"


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_it_ends_when_nobody_reads_it_any_more(tmp_path: Path, form: tuple[str, ...]) -> None:
    """As `innerloop watch | head -1`, which went on for ever; on a full disk it says so."""
    command = [sys.executable, "-m", "harness.watch", "--rate", "20", *form]
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=own, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr.read() == b""
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=own, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 3
    assert b"No space left on device" in done.stderr


def test_a_driver_that_does_not_work_is_told_from_none(nvml_library: Path, tmp_path: Path) -> None:
    found = once(nvml_library, Scenario((h100(),), init_error=DRIVER_MISMATCH), tmp_path)
    assert found["devices"] is None
    assert "the NVIDIA driver cannot be used: " in found["note"]
    assert "mismatch" in found["note"]


def test_every_device_that_cannot_be_read_is_named_beside_those_that_can(nvml_library: Path, tmp_path: Path) -> None:
    scenario = Scenario((h100(0), h100(1), h100(2)))
    code = (
        "from contextlib import ExitStack; from innerloop.harness.telemetry import watch\n"
        "from innerloop.harness.report.watch import draw; from innerloop.harness.telemetry.nvml import NoDriver\n"
        "real = watch.NvmlDevice; uuids = {gpu.uuid: gpu.index for gpu in watch.visible_gpus()}\n"
        "def device(uuid):\n"
        "    if uuids[uuid] != 1: raise (NoDriver if uuids[uuid] else watch.DeviceLost)(f'no {uuids[uuid]}')\n"
        "    return real(uuid)\n"
        "watch.NvmlDevice = device\n"
        "with ExitStack() as stack: draw(watch.watch(1.0, True, stack), True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(nvml_library, scenario, tmp_path), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "GPU 0 cannot be read: no 0; GPU 2 cannot be read: no 2" in done.stdout
