"""What `harness.doctor` says of devices' telemetry: with played devices, with a broken driver, and without any."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from innerloop.harness.ceilings import obtain
from innerloop.harness.machine import gpus
from innerloop.harness.telemetry import nvml, watched
from tests import preloaded
from tests.nvml.devices import GIB, h100, mig_slice, p100
from tests.nvml.library import NAME, variables
from tests.nvml.scenario import Fault, Scenario
from tests.real import ROOT

pytestmark = pytest.mark.slow

DRIVER_MISMATCH, GPU_IS_LOST = 18, 15


def doctor(library: Path, scenario: Scenario, folder: Path, *arguments: str) -> str:
    """What it prints; nothing may go to stderr, and it must succeed."""
    own = {**os.environ, "PYTHONPATH": str(ROOT), "INNERLOOP_HOME": str(folder / "home")}
    own |= variables(library, scenario, folder / "scenario.txt")
    done = preloaded.run("harness.doctor", *arguments, cwd=Path.cwd(), env=own)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def three() -> Scenario:
    limited = {"power_limit_w": 550.0}
    sliced = h100(2, numbers={"mig": 1}, slices=(mig_slice(0),))
    return Scenario((h100(0, numbers=limited), p100(1), sliced))


def test_devices_are_listed_with_what_their_telemetry_can_do(nvml_library: Path, tmp_path: Path) -> None:
    telemetry = json.loads(doctor(nvml_library, three(), tmp_path, "--json"))["telemetry"]
    assert telemetry["note"] is None
    new, old, sliced = telemetry["devices"]
    assert (new["index"], new["name"], new["driver"]) == (0, "NVIDIA H100 80GB HBM3", "580.65.06")
    assert (new["memory_total_bytes"], new["power_limit_w"], new["power_default_limit_w"]) == (80 * GIB, 550, 700)
    assert set(new["supported"].values()) == {True}
    lacking = {"power_instant", "energy", "gpm", "memory_temperature", "pcie", "nvlink"}
    assert {name for name, there in old["supported"].items() if not there} == lacking
    assert (old["mig"], new["mig"]) == (None, None)
    assert sliced["uuid"].startswith("MIG-")
    assert sliced["mig"] == {"parent_uuid": three().devices[2].uuid, "gpu_instance": 1, "compute_instance": 0}
    assert sliced["memory_total_bytes"] == 40 * GIB
    assert [name for name, there in sliced["supported"].items() if not there] == ["utilization"]


def test_a_person_reads_a_line_a_device(nvml_library: Path, tmp_path: Path) -> None:
    lines = doctor(nvml_library, three(), tmp_path).splitlines()
    found = {}
    for index, name in enumerate(("NVIDIA H100", "Tesla P100", "NVIDIA H100")):
        [found[index]] = [line for line in lines if line.startswith(f"GPU {index} {name}")]
    for word in ("580.65.06", "80.0 GiB", "550 W"):
        assert word in found[0]
    for word in ("energy", "power instant", "16.0 GiB"):
        assert word in found[1]
        assert word not in found[0]
    assert "slice" in found[2]


def test_without_a_driver_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()  # nothing that the loader can load
    telemetry = json.loads(doctor(tmp_path, Scenario(()), tmp_path, "--json"))["telemetry"]
    assert telemetry["devices"] is None
    assert telemetry["note"] == "no NVIDIA driver on this machine"
    said = [line for line in doctor(tmp_path, Scenario(()), tmp_path).splitlines() if "telemetry" in line]
    assert said == ["no device telemetry: no NVIDIA driver on this machine"]


def test_a_driver_that_does_not_work_is_told_from_none(nvml_library: Path, tmp_path: Path) -> None:
    scenario = Scenario((h100(),), init_error=DRIVER_MISMATCH)
    note = json.loads(doctor(nvml_library, scenario, tmp_path, "--json"))["telemetry"]["note"]
    assert note.startswith("the NVIDIA driver cannot be used: ")


def test_a_device_that_does_not_answer_is_told_from_none(nvml_library: Path, tmp_path: Path) -> None:
    scenario = Scenario((h100(0, faults=(Fault("*", GPU_IS_LOST),)),))
    telemetry = json.loads(doctor(nvml_library, scenario, tmp_path, "--json"))["telemetry"]
    assert telemetry["devices"] is None
    assert "lost" in telemetry["note"].lower()


def test_a_device_that_is_lost_while_it_is_asked_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def __init__(self, uuid: str) -> None:
            self.uuid = uuid

        def facts(self) -> str:
            if self.uuid == "a":
                raise nvml.DeviceLost("GPU is lost")
            return self.uuid

        def close(self) -> None:
            closed.append(self.uuid)

    closed: list[str] = []
    monkeypatch.setattr(nvml, "NvmlDevice", Device)
    monkeypatch.setattr(gpus, "visible_gpus", lambda: [SimpleNamespace(index=k, uuid=u) for k, u in enumerate("ab")])
    found = watched.inventory()
    assert (str(found.devices), found.note) == ("['b']", "GPU 0 cannot be read: GPU is lost")
    assert closed == ["a", "b"]
    assert obtain.told_by("a") is None
