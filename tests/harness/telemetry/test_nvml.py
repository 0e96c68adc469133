"""One NVIDIA device, read through the real nvidia-ml-py from the played library."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.telemetry.device import MISSING, READ, DeviceLost
from innerloop.harness.telemetry.fields import number
from innerloop.harness.telemetry.nvml import NoDriver, NvmlDevice, connect
from innerloop.harness.telemetry.owners import Process
from tests.conftest import Play
from tests.nvml import scenario
from tests.nvml.devices import GIB, h100, mig_slice, p100
from tests.nvml.scenario import ZERO, Cell, Cells, Fault, Scenario, constant

NOT_SUPPORTED, LOST, RESET, UNKNOWN, NO_DRIVER = 3, 15, 16, 999, 9


class At:
    """Devices at a time that the test sets."""

    def __init__(self, play: Play, folder: Path, *parts: scenario.Device, **fields: Any) -> None:
        cells = Cells(folder / "cells")
        self.clock: Cell = cells.new(1.0)
        self.nvml = play(Scenario(parts, cells, self.clock, **fields))
        self.open: list[NvmlDevice] = []

    def device(self, uuid: str) -> NvmlDevice:
        self.open.append(NvmlDevice(uuid))
        return self.open[-1]


@pytest.fixture
def at(play: Play, tmp_path: Path) -> Any:
    made: list[At] = []

    def make(*parts: scenario.Device, **fields: Any) -> At:
        made.append(At(play, tmp_path, *parts, **fields))
        return made[-1]

    yield make
    for one in made:
        for device in one.open:
            device.close()


def read(device: NvmlDevice) -> dict[str, Any]:
    """All columns as one sample would have them; what is missing is None."""
    row = list(MISSING)
    device.fast(row)
    device.medium(row)
    device.slow(row)
    return {name: None if value != value or value == -1 else value for name, value in zip(READ, row, strict=True)}


def test_every_reading_of_a_whole_part_arrives_in_its_unit(at: Callable[..., At]) -> None:
    part = h100(power_w=constant(321.5), numbers={"power_limit_w": 650.0})
    here = at(part)
    device = here.device(part.uuid)
    assert set(device.supported.values()) == {True}
    here.clock.set(11.0)
    row = read(device)
    approximately = {name: pytest.approx(value, rel=1e-3) for name, value in row.items() if isinstance(value, float)}
    assert row == {
        **approximately,
        "power_instant_w": pytest.approx(321.5),
        "power_average_w": pytest.approx(321.5),
        "energy_j": pytest.approx(1000 + 11 * 321.5),
        "memory_used_bytes": GIB,
        "gpu_utilization": 0.9,
        "memory_utilization": 0.5,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "temperature_c": 50,
        "event_reasons": 0,
        "sm_activity": pytest.approx(0.8),
        "sm_occupancy": pytest.approx(0.4),
        "tensor_activity": pytest.approx(0.3),
        "dram_bandwidth": pytest.approx(0.7),
        "graphics_activity": pytest.approx(0.95),
        "gpm_pcie_tx_bytes_per_s": pytest.approx(3e6),
        "gpm_pcie_rx_bytes_per_s": pytest.approx(5e6),
        "gpm_nvlink_tx_bytes_per_s": pytest.approx(7e6),
        "gpm_nvlink_rx_bytes_per_s": pytest.approx(11e6),
        "memory_temperature_c": 60,
        "pcie_tx_bytes": pytest.approx(33e6, rel=1e-3),
        "pcie_rx_bytes": pytest.approx(55e6, rel=1e-3),
        "nvlink_tx_bytes": pytest.approx(77e6, rel=1e-3),
        "nvlink_rx_bytes": pytest.approx(121e6, rel=1e-3),
        "memory_worker_bytes": None,
    }
    assert isinstance(row["nvlink_tx_bytes"], int)


def test_the_facts_of_a_device_are_told(at: Callable[..., At]) -> None:
    part = h100(1, numbers={"power_limit_w": 650.0})
    facts: dict[str, Any] = {**at(h100(), part).device(part.uuid).facts()}
    supported = facts.pop("supported")
    assert facts == {
        "index": 1,
        "uuid": part.uuid,
        "name": part.name,
        "mig": None,
        "driver": "580.65.06",
        "architecture": "Hopper",
        "memory_total_bytes": 80 * GIB,
        "power_limit_w": 650,
        "power_default_limit_w": 700,
        "max_sm_clock_mhz": 1980,
        "max_memory_clock_mhz": 2619,
    }
    assert supported["gpm"]


def test_an_older_part_is_read_by_its_older_calls_and_says_what_it_lacks(at: Callable[..., At]) -> None:
    part = p100(power_w=constant(180.0))
    device = at(part).device(part.uuid)
    lacking = {name for name, there in device.supported.items() if not there}
    assert lacking == {"power_instant", "energy", "gpm", "memory_temperature", "pcie", "nvlink"}
    row = read(device)
    assert row["power_average_w"] == pytest.approx(180)
    assert row["memory_used_bytes"] is not None
    assert row["power_instant_w"] is row["energy_j"] is row["sm_activity"] is row["pcie_tx_bytes"] is None
    assert device.faults == {}


def test_power_and_energy_take_one_call_a_sample(at: Callable[..., At], monkeypatch: pytest.MonkeyPatch) -> None:
    part = h100()
    here = at(part)
    device = here.device(part.uuid)
    calls: list[int] = []
    [into] = device._fast
    fields: Any = into.__self__  # type: ignore[attr-defined]
    real = fields._call

    def counted(*arguments: Any) -> int:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(fields, "_call", counted)
    assert device.fast(list(MISSING))
    assert len(calls) == 1


def test_a_slice_has_its_own_memory_and_activity_and_the_gpus_power(at: Callable[..., At]) -> None:
    parts = mig_slice(0), mig_slice(1, memory_used_bytes=constant(5 * GIB))
    whole = h100(power_w=constant(500.0), numbers={"mig": 1}, slices=parts)
    here = at(whole)
    device = here.device(parts[1].uuid)
    here.clock.set(2.0)
    facts, row = device.facts(), read(device)
    assert facts["mig"] == {"parent_uuid": whole.uuid, "gpu_instance": 2, "compute_instance": 0}
    assert (facts["uuid"], facts["memory_total_bytes"]) == (parts[1].uuid, 40 * GIB)
    assert (row["memory_used_bytes"], row["power_instant_w"]) == (5 * GIB, 500)
    assert row["sm_activity"] == pytest.approx(0.6)
    assert not device.supported["utilization"]


def test_a_gpu_in_mig_mode_is_read_as_its_first_slice(at: Callable[..., At]) -> None:
    first = mig_slice(0)
    whole = h100(numbers={"mig": 1}, slices=(first, mig_slice(1)))
    assert at(whole).device(whole.uuid).facts()["uuid"] == first.uuid


def test_a_reading_of_0_w_is_missing_and_counted(at: Callable[..., At]) -> None:
    part = h100(faults=(Fault("power_instant", ZERO, 5.0, 6.0),))
    here = at(part)
    device = here.device(part.uuid)
    here.clock.set(5.5)
    row = read(device)
    assert row["power_instant_w"] is None
    assert row["energy_j"] is not None
    assert device.faults == {"zero_power": 1}
    here.clock.set(6.5)
    assert read(device)["power_instant_w"] == pytest.approx(100)


def test_what_is_refused_now_and_then_is_missing_then_and_counts_as_supported(at: Callable[..., At]) -> None:
    refused = [Fault(what, NOT_SUPPORTED, every=2) for what in ("power_instant", "memory", "clocks")]
    part = h100(faults=tuple(refused))
    device = at(part).device(part.uuid)
    assert device.supported["power_instant"]
    assert device.supported["memory"]
    rows = [read(device) for _ in range(6)]
    powers = [row["power_instant_w"] for row in rows]
    assert powers.count(None) == 3
    assert None in [row["memory_used_bytes"] for row in rows]
    assert all(row["energy_j"] is not None for row in rows)
    assert device.faults["refused"] >= 6


@pytest.mark.parametrize("code", [LOST, RESET])
@pytest.mark.parametrize("what", ["*", "fields", "power_instant", "memory", "gpm", "processes"])
def test_a_lost_device_is_told_apart_from_a_refusal(at: Callable[..., At], what: str, code: int) -> None:
    part = h100(faults=(Fault(what, code, 5.0),))
    here = at(part)
    device = here.device(part.uuid)
    read(device)
    here.clock.set(5.0)
    look = device.processes if what == "processes" else lambda: read(device)
    with pytest.raises(DeviceLost, match="GPU"):
        look()


def test_a_device_that_answers_nothing_says_so(at: Callable[..., At]) -> None:
    part = h100(faults=(Fault("*", UNKNOWN, 5.0),))
    here = at(part)
    device = here.device(part.uuid)
    row = list(MISSING)
    assert device.fast(row)
    assert device.medium(row)
    here.clock.set(5.0)
    row = list(MISSING)
    assert not device.fast(row)
    assert not device.medium(row)
    assert [value for value in row if value == value and value != -1] == []
    assert device.processes() is None


def test_processes_of_both_kinds_are_listed_with_their_memory(at: Callable[..., At]) -> None:
    listed = (
        scenario.Process(11, 3 * GIB),
        scenario.Process(12, -1),
        scenario.Process(11, GIB, graphics=True),
        scenario.Process(13, GIB, graphics=True, start=5.0),
    )
    part = h100(processes=listed)
    here = at(part)
    device = here.device(part.uuid)
    assert sorted(device.processes() or ()) == [Process(11, 4 * GIB), Process(12, None)]
    here.clock.set(5.0)
    assert Process(13, GIB) in (device.processes() or ())


def test_memory_in_use_leaves_out_the_drivers_reserve_where_it_is_told(at: Callable[..., At]) -> None:
    part = h100(numbers={"memory_reserved_bytes": GIB // 2})
    assert read(at(part).device(part.uuid))["memory_used_bytes"] == GIB


def test_a_device_that_is_not_there_is_an_error_that_leaves_nothing_open(at: Callable[..., At]) -> None:
    here = at(h100())
    with pytest.raises(DeviceLost):
        NvmlDevice("GPU-not-there")
    assert here.nvml._nvmlLib_refcount == 0


def test_a_closed_device_gives_the_driver_back(at: Callable[..., At]) -> None:
    part = h100()
    here = at(part)
    device = NvmlDevice(part.uuid)
    assert here.nvml._nvmlLib_refcount == 1
    device.close()
    assert here.nvml._nvmlLib_refcount == 0


def test_without_a_driver_the_reason_is_told(at: Callable[..., At], monkeypatch: pytest.MonkeyPatch) -> None:
    at(h100(), init_error=NO_DRIVER)
    with pytest.raises(NoDriver, match="the NVIDIA driver cannot be used: Driver Not Loaded"):
        connect()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoDriver, match="nvidia-ml-py is not installed"):
        connect()


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (0, 0x3FF8000000000000, 1.5),
        (1, 0xFFFFFFFF_00000007, 7),  # the upper half is not the value's
        (2, 2**40, 2**40),
        (3, 2**63 + 1, 2**63 + 1),
        (4, 2**64 - 5, -5),
        (5, 0x12345678_FFFFFFFB, -5),
        (6, 0xABCD_0007, 7),
    ],
)
def test_a_field_values_type_decides_how_it_is_read(kind: int, raw: int, value: float) -> None:
    assert number(kind, raw) == value


def test_the_average_power_which_is_slow_to_read_is_not_read_with_every_sample(at: Callable[..., At]) -> None:
    part = h100()
    device = at(part).device(part.uuid)
    row = list(MISSING)
    device.fast(row)
    device.medium(row)
    assert math.isnan(row[READ.index("power_average_w")])
