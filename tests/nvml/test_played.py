"""The played library itself, through the real nvidia-ml-py: its binary interface, its values, its faults."""

from __future__ import annotations

import ctypes
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pynvml as real  # the real one's types and numbers; nothing is called here
import pytest

from tests.conftest import Play
from tests.nvml import devices
from tests.nvml.devices import GIB, h100, mig_slice, p100
from tests.nvml.library import HERE, NAME, compiler, variables
from tests.nvml.scenario import (
    STALL,
    ZERO,
    Cell,
    Cells,
    Curve,
    Device,
    Event,
    Fault,
    Piece,
    Process,
    Scenario,
    constant,
    levels,
    ramp,
    wave,
)

EXPORTED = """
nvmlInitWithFlags nvmlInit_v2 nvmlShutdown nvmlErrorString nvmlSystemGetDriverVersion nvmlSystemGetNVMLVersion
nvmlSystemGetCudaDriverVersion_v2 nvmlDeviceGetCount_v2 nvmlDeviceGetHandleByIndex_v2 nvmlDeviceGetHandleByUUID
nvmlDeviceGetUUID nvmlDeviceGetName nvmlDeviceGetIndex nvmlDeviceGetPciInfo_v3 nvmlDeviceGetCudaComputeCapability
nvmlDeviceGetArchitecture nvmlDeviceGetMemoryInfo nvmlDeviceGetMemoryInfo_v2 nvmlDeviceGetUtilizationRates
nvmlDeviceGetClockInfo nvmlDeviceGetMaxClockInfo nvmlDeviceGetTemperature nvmlDeviceGetCurrentClocksEventReasons
nvmlDeviceGetCurrentClocksThrottleReasons nvmlDeviceGetSupportedClocksEventReasons
nvmlDeviceGetSupportedClocksThrottleReasons nvmlDeviceGetTotalEnergyConsumption nvmlDeviceGetPowerUsage
nvmlDeviceGetEnforcedPowerLimit nvmlDeviceGetPowerManagementDefaultLimit nvmlDeviceGetFieldValues
nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetGraphicsRunningProcesses_v3 nvmlDeviceGetMigMode
nvmlDeviceGetMaxMigDeviceCount nvmlDeviceGetMigDeviceHandleByIndex nvmlDeviceGetDeviceHandleFromMigDeviceHandle
nvmlDeviceGetGpuInstanceId nvmlDeviceGetComputeInstanceId nvmlDeviceIsMigDeviceHandle nvmlDeviceGetPcieThroughput
nvmlGpmQueryDeviceSupport nvmlGpmSampleAlloc nvmlGpmSampleFree nvmlGpmSampleGet nvmlGpmMigSampleGet nvmlGpmMetricsGet
"""
CALLS = EXPORTED.split()
STRUCTURES = {
    "nvmlPciInfo_t": real.nvmlPciInfo_t,
    "nvmlMemory_t": real.c_nvmlMemory_t,
    "nvmlMemory_v2_t": real.c_nvmlMemory_v2_t,
    "nvmlUtilization_t": real.c_nvmlUtilization_t,
    "nvmlFieldValue_t": real.c_nvmlFieldValue_t,
    "nvmlProcessInfo_t": real.c_nvmlProcessInfo_v3_t,
    "nvmlGpmSupport_t": real.c_nvmlGpmSupport_t,
    "nvmlGpmMetric_t": real.c_nvmlGpmMetric_t,
    "nvmlGpmMetricsGet_t": real.c_nvmlGpmMetricsGet_t,
}
POWER = Curve(
    (Piece(10, 60, 60), Piece(5, 60, 400), Piece(20, 400, 400, amplitude=150, period_s=0.73), Piece(3, 80, 80))
)


@dataclass(frozen=True)
class At:
    """A machine whose time is what the test says it is."""

    nvml: Any
    clock: Cell
    cells: Cells

    def device(self, index: int = 0) -> Any:
        return self.nvml.nvmlDeviceGetHandleByIndex(index)

    def field(self, name: str, index: int = 0) -> int | None:
        """A field's value by the type that it says it has; None if it is not supported."""
        [value] = self.nvml.nvmlDeviceGetFieldValues(self.device(index), [getattr(real, f"NVML_FI_DEV_{name}")])
        if value.nvmlReturn == real.NVML_ERROR_NOT_SUPPORTED:
            return None
        assert value.nvmlReturn == real.NVML_SUCCESS
        wide = value.valueType == real.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
        assert wide or value.valueType == real.NVML_VALUE_TYPE_UNSIGNED_INT
        return value.value.ullVal if wide else value.value.uiVal


@pytest.fixture
def at(play: Play, tmp_path: Path) -> Callable[..., At]:
    """at(device, ...): an initialised machine with those devices, at 0 s; a function of Cells makes a steered one."""

    def make(*parts: Device | Callable[[Cells], Device], **fields: Any) -> At:
        cells = Cells(tmp_path / "cells")
        clock = cells.new(0.0)
        made = tuple(part(cells) if callable(part) else part for part in parts)
        nvml = play(Scenario(made, cells, clock, **fields))
        nvml.nvmlInit()
        return At(nvml, clock, cells)

    return make


# ---- the binary interface ----


def test_every_call_is_there_under_the_real_librarys_name(nvml_library: Path) -> None:
    library = ctypes.CDLL(str(nvml_library / NAME))
    assert [name for name in CALLS if not hasattr(library, name)] == []
    declared = set(re.findall(r'_nvmlGetFunctionPointer\("(\w+)"\)', Path(real.__file__).read_text()))
    assert set(CALLS) - declared == {"nvmlInit_v2"}  # older pynvml's


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the C compiler makes of abi.h: `TYPE` -> size, `TYPE.field` -> offset, and the constants' values."""
    folder = tmp_path_factory.mktemp("layout")
    text = (HERE / "abi.h").read_text()
    constants = re.findall(r"^\s*(NVML_\w+) = ", text, re.M)
    asked = {name: name for name in constants}
    for name, structure in STRUCTURES.items():
        asked[name] = f"sizeof({name})"
        asked.update({f"{name}.{part[0]}": f"offsetof({name}, {part[0]})" for part in structure._fields_})
    prints = "\n".join(f'printf("{name} %ld\\n", (long)({what}));' for name, what in asked.items())
    (folder / "layout.c").write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HERE}/abi.h"\nint main(void) {{ {prints} }}\n'
    )
    command = [*compiler(), "-o", str(folder / "layout"), str(folder / "layout.c")]
    subprocess.run(command, check=True)
    done = subprocess.run([folder / "layout"], check=True, capture_output=True, text=True)
    return {name: int(value) for name, value in (line.split() for line in done.stdout.splitlines())}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_is_laid_out_as_pynvml_declares_it(layout: dict[str, int], name: str) -> None:
    structure = STRUCTURES[name]
    for part in structure._fields_:
        assert layout[f"{name}.{part[0]}"] == getattr(structure, part[0]).offset, part[0]
    open_ended = ctypes.sizeof(real.c_nvmlGpmMetric_t) * real.NVML_GPM_METRIC_MAX if "MetricsGet" in name else 0
    assert layout[name] == ctypes.sizeof(structure) - open_ended


def test_every_constant_has_pynvmls_value(layout: dict[str, int]) -> None:
    constants = {name: value for name, value in layout.items() if name.startswith("NVML_")}
    assert len(constants) > 25
    assert constants == {name: getattr(real, name) for name in constants}
    assert real.nvmlMemory_v2 == 0x02000028
    assert (real.NVML_GPM_SUPPORT_VERSION, real.NVML_GPM_METRICS_GET_VERSION) == (1, 1)


# ---- the library's life ----


def test_a_subprocess_finds_it_by_the_loaders_path(nvml_library: Path, tmp_path: Path) -> None:
    code = "import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetCount(), n.nvmlSystemGetDriverVersion())"
    environment = variables(nvml_library, Scenario((h100(), p100(1)), driver="570.1"), tmp_path / "scenario.txt")
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["2", "570.1"], done.stderr


def test_nothing_works_before_init_nor_after_the_last_shutdown(play: Play) -> None:
    nvml = play(Scenario((h100(),)))
    with pytest.raises(nvml.NVMLError_Uninitialized):
        nvml.nvmlDeviceGetCount()
    nvml.nvmlInit()
    nvml.nvmlInit()
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    nvml.nvmlShutdown()
    assert nvml.nvmlDeviceGetPowerUsage(device) == 100_000
    nvml.nvmlShutdown()
    with pytest.raises(nvml.NVMLError_Uninitialized):
        nvml.nvmlDeviceGetPowerUsage(device)


def test_init_can_fail(play: Play) -> None:
    nvml = play(Scenario((h100(),), init_error=real.NVML_ERROR_DRIVER_NOT_LOADED))
    with pytest.raises(nvml.NVMLError_DriverNotLoaded):
        nvml.nvmlInit()
    with pytest.raises(nvml.NVMLError_Uninitialized):
        nvml.nvmlDeviceGetCount()


@pytest.mark.parametrize(
    "line",
    ["colour red", "device\ncolour red", "device\npower_w 1 2", "device\nfault * 0 @3 3 1", "device\nsm_max_mhz x"],
)
def test_a_scenario_that_makes_no_sense_ends_the_process(nvml_library: Path, tmp_path: Path, line: str) -> None:
    scenario = tmp_path / "scenario.txt"
    environment = {**os.environ, **variables(nvml_library, Scenario(()), scenario)}
    scenario.write_text(scenario.read_text() + line + "\n")
    command = [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "played NVML: " in done.stderr


# ---- what a machine has ----


def test_devices_are_found_by_index_and_by_uuid(at: Callable[..., At]) -> None:
    here = at(h100(0), p100(1, uuid="GPU-abc"))
    nvml, device = here.nvml, here.nvml.nvmlDeviceGetHandleByUUID("GPU-abc")
    assert nvml.nvmlDeviceGetCount() == 2
    assert nvml.nvmlDeviceGetUUID(here.device(1)) == "GPU-abc"
    assert nvml.nvmlDeviceGetName(device) == "Tesla P100-PCIE-16GB"
    assert nvml.nvmlDeviceGetIndex(device) == 1
    assert nvml.nvmlDeviceGetCudaComputeCapability(device) == (6, 0)
    assert nvml.nvmlDeviceGetArchitecture(here.device(0)) == real.NVML_DEVICE_ARCH_HOPPER
    pci = nvml.nvmlDeviceGetPciInfo(here.device(1))
    assert (pci.busId, pci.busIdLegacy, pci.bus, pci.domain) == ("00000000:1C:00.0", "0000:1C:00.0", 0x1C, 0)
    assert nvml.nvmlDeviceGetEnforcedPowerLimit(device) == 700_000
    assert nvml.nvmlDeviceGetPowerManagementDefaultLimit(device) == 700_000
    assert nvml.nvmlSystemGetCudaDriverVersion_v2() == 13000
    assert nvml.nvmlSystemGetNVMLVersion() == "13.580.65.06"
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        here.device(2)
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetHandleByUUID("GPU-ab")


def test_a_slice_has_memory_processes_and_a_place_and_nothing_else(at: Callable[..., At]) -> None:
    own = (Process(700, 5 * GIB),)
    here = at(h100(0, numbers={"mig": 1}, slices=(mig_slice(0), mig_slice(1, processes=own))), h100(1))
    nvml, whole = here.nvml, here.device(0)
    assert nvml.nvmlDeviceGetCount() == 2
    assert nvml.nvmlDeviceGetMigMode(whole) == [1, 1]
    assert nvml.nvmlDeviceGetMigMode(here.device(1)) == [0, 0]
    assert nvml.nvmlDeviceGetMaxMigDeviceCount(whole) == 7
    part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, 1)
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, 2)
    uuid = nvml.nvmlDeviceGetUUID(part)
    assert uuid.startswith("MIG-")
    assert nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByUUID(uuid)) == uuid
    assert nvml.nvmlDeviceIsMigDeviceHandle(part).value == 1
    assert nvml.nvmlDeviceIsMigDeviceHandle(whole).value == 0
    assert nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part)) == 0
    assert (nvml.nvmlDeviceGetGpuInstanceId(part), nvml.nvmlDeviceGetComputeInstanceId(part)) == (2, 0)
    assert nvml.nvmlDeviceGetMemoryInfo(part).total == 40 * GIB
    [process] = nvml.nvmlDeviceGetComputeRunningProcesses(part)
    assert (process.pid, process.usedGpuMemory, process.gpuInstanceId) == (700, 5 * GIB, 2)
    assert [one.pid for one in nvml.nvmlDeviceGetComputeRunningProcesses(whole)] == [700]
    assert nvml.nvmlDeviceGetTotalEnergyConsumption(whole) == 1_000_000
    for call in (
        lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(part),
        lambda: nvml.nvmlDeviceGetPowerUsage(part),
        lambda: nvml.nvmlDeviceGetUtilizationRates(part),
        lambda: nvml.nvmlDeviceGetUtilizationRates(whole),  # unknown under MIG
        lambda: nvml.nvmlDeviceGetTemperature(part, 0),
        lambda: nvml.nvmlDeviceGetGpuInstanceId(whole),
    ):
        with pytest.raises(nvml.NVMLError_NotSupported):
            call()


def test_an_old_part_says_what_it_cannot(at: Callable[..., At]) -> None:
    here = at(p100())
    with pytest.raises(here.nvml.NVMLError_NotSupported):
        here.nvml.nvmlDeviceGetTotalEnergyConsumption(here.device())
    with pytest.raises(here.nvml.NVMLError_NotSupported):
        here.nvml.nvmlDeviceGetMigMode(here.device())
    silent = ("POWER_INSTANT", "TOTAL_ENERGY_CONSUMPTION", "MEMORY_TEMP", "PCIE_COUNT_TX_BYTES")
    assert [here.field(name) for name in silent] == [None] * 4
    assert here.field("POWER_AVERAGE") == 100_000
    assert here.nvml.nvmlGpmQueryDeviceSupport(here.device()).isSupportedDevice == 0


# ---- power and energy ----


def test_a_curves_integral_is_that_of_its_values() -> None:
    for curve in (POWER, wave(300, 100, 1.7), levels((1, 5), (0.5, 9), repeats=True), ramp(4, 0, 10)):
        t = np.linspace(0.3, 57.9, 50_001)
        summed = np.trapezoid([curve.value(float(s)) for s in t], t)
        assert curve.integral(0.3, 57.9) == pytest.approx(summed, rel=1e-4)


@pytest.mark.parametrize("power", [POWER, wave(300, 100, 1.7), levels((0.1, 50), (0.3, 700), repeats=True)])
def test_the_energy_counter_is_exact_to_its_millijoule(at: Callable[..., At], power: Curve) -> None:
    here = at(h100(power_w=power, numbers={"energy_before_j": 12.5}))
    for t in (0.0, 0.001, 3.7, 12.34, 15.0, 16.18, 35.01, 38.0, 100.25):
        here.clock.set(t)
        exact_mj = 1000 * (12.5 + power.integral(0, t))
        counter = here.nvml.nvmlDeviceGetTotalEnergyConsumption(here.device())
        assert exact_mj - 1 - 1e-6 < counter < exact_mj + 1e-6
        assert here.field("TOTAL_ENERGY_CONSUMPTION") == counter


def test_a_counter_may_have_a_period_of_its_own(at: Callable[..., At]) -> None:
    here = at(h100(power_w=constant(10), numbers={"counter_update_s": 0.5, "energy_before_j": 0}))
    here.clock.set(1.4)
    assert here.field("TOTAL_ENERGY_CONSUMPTION") == 10_000


def test_on_the_real_clock_the_counter_lies_between_before_and_after(play: Play) -> None:
    scenario = Scenario((h100(power_w=wave(400, 300, 0.05)),))
    nvml = play(scenario)
    nvml.nvmlInit()
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    curve = wave(400, 300, 0.05)
    for _ in range(50):
        before, counter, after = scenario.now(), nvml.nvmlDeviceGetTotalEnergyConsumption(device), scenario.now()
        spent_j = counter / 1000 - 1000
        assert curve.integral(0, before) - 0.001 <= spent_j <= curve.integral(0, after)
        time.sleep(0.003)


def test_instant_power_is_the_mean_of_a_window_and_changes_every_update(at: Callable[..., At]) -> None:
    here = at(h100(power_w=POWER))
    for tick in (12.3, 20.0, 31.7):
        for since in (0.0001, 0.05, 0.0999):
            here.clock.set(tick + since)
            exact_mw = 1000 * POWER.integral(tick - 0.025, tick) / 0.025
            assert here.field("POWER_INSTANT") == pytest.approx(exact_mw, abs=0.6)


def test_power_usage_is_the_mean_of_a_second(at: Callable[..., At]) -> None:
    here = at(h100(power_w=POWER))
    here.clock.set(14.55)
    exact_mw = 1000 * POWER.integral(13.5, 14.5)
    assert here.nvml.nvmlDeviceGetPowerUsage(here.device()) == pytest.approx(exact_mw, abs=0.6)
    assert here.field("POWER_AVERAGE") == here.nvml.nvmlDeviceGetPowerUsage(here.device())


def test_bursts_between_the_windows_are_seen_by_the_counter_only(at: Callable[..., At]) -> None:
    here = at(h100(power_w=levels((0.06, 700), (0.04, 100), repeats=True), numbers={"energy_before_j": 0}))
    seen = set()
    for t in np.arange(5, 10, 0.037):
        here.clock.set(float(t))
        seen.add(here.field("POWER_INSTANT"))
    assert seen == {100_000}
    here.clock.set(10.0)
    assert here.field("TOTAL_ENERGY_CONSUMPTION") == pytest.approx(4_600_000, abs=1)


# ---- memory, processes, and the rest ----


def test_memory_can_be_steered_while_it_is_read(at: Callable[..., At]) -> None:
    used: list[Cell] = []

    def steered(cells: Cells) -> Device:
        used.append(cells.new(GIB))
        return h100(curves={"memory_used_bytes": used[0]})

    here = at(steered)
    for size in (GIB, 3 * GIB + 1):
        used[0].set(size)
        old, new = (here.nvml.nvmlDeviceGetMemoryInfo(here.device(), version) for version in (None, real.nvmlMemory_v2))
        assert (old.total, old.used) == (80 * GIB, size + GIB // 2)
        assert (new.total, new.used, new.reserved) == (80 * GIB, size, GIB // 2)
        assert old.free == new.free == 80 * GIB - size - GIB // 2
    with pytest.raises(here.nvml.NVMLError_ArgumentVersionMismatch):
        here.nvml.nvmlDeviceGetMemoryInfo(here.device(), 1)


def test_what_was_told_of_the_memory_is_seen_outside(at: Callable[..., At]) -> None:
    told: list[Cell] = []

    def watched(cells: Cells) -> Device:
        told.append(cells.new(0))
        return h100(told=told[0])

    here = at(watched)
    assert told[0].get() == 0
    here.nvml.nvmlDeviceGetMemoryInfo(here.device())
    assert told[0].get() == GIB


def test_processes_come_and_go(at: Callable[..., At]) -> None:
    pids: list[Cell] = []

    def steered(cells: Cells) -> Device:
        pids.append(cells.new(0))
        others = (Process(11, -1, start=5, end=8), Process(12, GIB, graphics=True))
        return h100(processes=(Process(pids[0], 2 * GIB), *others))

    here = at(steered)

    def listed() -> list[tuple[int, int | None]]:
        found = here.nvml.nvmlDeviceGetComputeRunningProcesses(here.device())
        assert {one.gpuInstanceId for one in found} <= {0xFFFFFFFF}
        return [(one.pid, one.usedGpuMemory) for one in found]

    assert listed() == []
    pids[0].set(4711)
    assert listed() == [(4711, 2 * GIB)]
    here.clock.set(5.0)
    assert listed() == [(4711, 2 * GIB), (11, None)]
    here.clock.set(8.0)
    assert listed() == [(4711, 2 * GIB)]
    [drawing] = here.nvml.nvmlDeviceGetGraphicsRunningProcesses(here.device())
    assert drawing.pid == 12


def test_clocks_temperatures_and_utilization_follow_their_curves(at: Callable[..., At]) -> None:
    curves = {
        "sm_mhz": levels((2, 1980), (2, 1200)),
        "temperature_c": ramp(10, 40, 90),
        "gpu_percent": levels((5, 100), (5, 0)),
    }
    here = at(h100(curves=curves))
    here.clock.set(3.0)
    nvml, device = here.nvml, here.device()
    assert nvml.nvmlDeviceGetClockInfo(device, real.NVML_CLOCK_SM) == 1200
    assert nvml.nvmlDeviceGetClockInfo(device, real.NVML_CLOCK_MEM) == 2619
    assert nvml.nvmlDeviceGetMaxClockInfo(device, real.NVML_CLOCK_SM) == 1980
    assert nvml.nvmlDeviceGetMaxClockInfo(device, real.NVML_CLOCK_MEM) == 2619
    assert nvml.nvmlDeviceGetTemperature(device, real.NVML_TEMPERATURE_GPU) == 55
    assert here.field("MEMORY_TEMP") == 60
    here.clock.set(5.0 + 1 / 12)
    rates = nvml.nvmlDeviceGetUtilizationRates(device)
    assert (rates.gpu, rates.memory) == (50, 50)


def test_event_reasons_have_an_older_name(at: Callable[..., At]) -> None:
    events = (Event(devices.GPU_IDLE, 0, 1), Event(devices.SW_POWER_CAP, 2, 6), Event(devices.HW_THERMAL, 5, 7))
    here = at(h100(events=events))
    for t, bits in ((0.5, 0x1), (1.5, 0), (3, 0x4), (5.5, 0x44), (6.5, 0x40)):
        here.clock.set(t)
        assert here.nvml.nvmlDeviceGetCurrentClocksEventReasons(here.device()) == bits
        assert here.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(here.device()) == bits
    assert here.nvml.nvmlDeviceGetSupportedClocksEventReasons(here.device()) == devices.REASONS
    assert here.nvml.nvmlDeviceGetSupportedClocksThrottleReasons(here.device()) == devices.REASONS


def test_traffic_is_counted(at: Callable[..., At]) -> None:
    here = at(h100())
    here.clock.set(10.0)
    assert (here.field("PCIE_COUNT_TX_BYTES"), here.field("PCIE_COUNT_RX_BYTES")) == (30_000_000, 50_000_000)
    kib = (here.field("NVLINK_THROUGHPUT_DATA_TX"), here.field("NVLINK_THROUGHPUT_DATA_RX"))
    assert kib == (70_000_000 // 1024, 110_000_000 // 1024)
    rates = [here.nvml.nvmlDeviceGetPcieThroughput(here.device(), way) for way in (0, 1)]
    assert rates == [3000, 5000]  # KB/s


def test_fields_are_answered_one_by_one(at: Callable[..., At]) -> None:
    here = at(h100(curves={"memory_temperature_c": None}))
    asked = [real.NVML_FI_DEV_POWER_INSTANT, real.NVML_FI_DEV_MEMORY_TEMP, 9999, real.NVML_FI_DEV_POWER_AVERAGE]
    values = here.nvml.nvmlDeviceGetFieldValues(here.device(), asked)
    codes = [real.NVML_SUCCESS, real.NVML_ERROR_NOT_SUPPORTED, real.NVML_ERROR_INVALID_ARGUMENT, real.NVML_SUCCESS]
    assert [value.nvmlReturn for value in values] == codes
    assert abs(values[0].timestamp / 1e6 - time.time()) < 60


# ---- GPM ----


def activity(here: At, take: Callable[[Any], Any], start_s: float, end_s: float, *ids: int) -> list[Any]:
    """(return code, value) of each metric between two moments."""
    nvml = here.nvml
    asked = nvml.c_nvmlGpmMetricsGet_t()
    asked.version, asked.numMetrics = real.NVML_GPM_METRICS_GET_VERSION, len(ids)
    asked.sample1, asked.sample2 = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
    for place, number in enumerate(ids):
        asked.metrics[place].metricId = number
    try:
        here.clock.set(start_s)
        take(asked.sample1)
        here.clock.set(end_s)
        take(asked.sample2)
        nvml.nvmlGpmMetricsGet(asked)
    finally:
        nvml.nvmlGpmSampleFree(asked.sample1)
        nvml.nvmlGpmSampleFree(asked.sample2)
    return [(metric.nvmlReturn, metric.value) for metric in asked.metrics[: len(ids)]]


def test_gpm_gives_means_between_two_samples(at: Callable[..., At]) -> None:
    here = at(h100(curves={"gpm_sm_percent": levels((10, 100), (10, 0)), "gpm_dram_percent": None}))
    assert here.nvml.nvmlGpmQueryDeviceSupport(here.device()).isSupportedDevice == 1

    def take(sample: Any) -> None:
        here.nvml.nvmlGpmSampleGet(here.device(), sample)

    ids = (real.NVML_GPM_METRIC_SM_UTIL, real.NVML_GPM_METRIC_DRAM_BW_UTIL, real.NVML_GPM_METRIC_PCIE_RX_PER_SEC)
    busy, unknown, received = activity(here, take, 9.0, 13.05, *ids)  # the counters of 13.0 are read
    assert busy == (real.NVML_SUCCESS, pytest.approx(25))
    assert unknown[0] == real.NVML_ERROR_NOT_SUPPORTED
    assert received == (real.NVML_SUCCESS, pytest.approx(5e6 / 2**20))
    [(_, within)] = activity(here, take, 5.01, 5.09, real.NVML_GPM_METRIC_SM_UTIL)
    assert math.isnan(within)  # no refresh lies between


def test_gpm_knows_slices(at: Callable[..., At]) -> None:
    other = mig_slice(1)
    other.curves["gpm_sm_percent"] = constant(15)
    here = at(h100(numbers={"mig": 1}, slices=(mig_slice(0), other)))
    for instance, percent in ((1, 60), (2, 15)):

        def take(sample: Any, instance: int = instance) -> None:
            here.nvml.nvmlGpmMigSampleGet(here.device(), instance, sample)

        assert activity(here, take, 1.0, 2.0, real.NVML_GPM_METRIC_SM_UTIL) == [(0, pytest.approx(percent))]
    sample = here.nvml.nvmlGpmSampleAlloc()
    with pytest.raises(here.nvml.NVMLError_InvalidArgument):
        here.nvml.nvmlGpmMigSampleGet(here.device(), 3, sample)
    here.nvml.nvmlGpmSampleFree(sample)


# ---- faults ----


def test_a_reading_of_zero_and_one_that_fails_now_and_then(at: Callable[..., At]) -> None:
    faults = (
        Fault("power_instant", ZERO, start=2, end=3),
        Fault("memory", real.NVML_ERROR_NOT_SUPPORTED, every=3),
        Fault("energy", real.NVML_ERROR_NOT_SUPPORTED, start=4),
    )
    here = at(h100(faults=faults))
    readings = []
    for t in (1.9, 2.0, 2.9, 3.0):
        here.clock.set(t)
        readings.append(here.field("POWER_INSTANT"))
    assert readings == [100_000, 0, 0, 100_000]
    assert here.field("POWER_AVERAGE") == 100_000
    outcomes = []
    for _ in range(6):
        try:
            outcomes.append(here.nvml.nvmlDeviceGetMemoryInfo(here.device()).total > 0)
        except here.nvml.NVMLError_NotSupported:
            outcomes.append(False)
    assert outcomes == [True, True, False, True, True, False]
    assert here.field("TOTAL_ENERGY_CONSUMPTION") is not None
    here.clock.set(4.0)
    assert here.field("TOTAL_ENERGY_CONSUMPTION") is None


def test_a_device_can_be_lost_at_a_moment_that_the_test_chooses(at: Callable[..., At]) -> None:
    moment: list[Cell] = []

    def doomed(cells: Cells) -> Device:
        moment.append(cells.new(math.inf))
        return h100(1, faults=(Fault("*", real.NVML_ERROR_GPU_IS_LOST, start=moment[0]),))

    here = at(h100(0), doomed)
    nvml, device = here.nvml, here.device(1)
    here.clock.set(7.0)
    assert nvml.nvmlDeviceGetPowerUsage(device) == 100_000
    moment[0].set(7.0)
    for call in (
        lambda: nvml.nvmlDeviceGetPowerUsage(device),
        lambda: nvml.nvmlDeviceGetFieldValues(device, [real.NVML_FI_DEV_POWER_INSTANT]),
        lambda: nvml.nvmlDeviceGetMemoryInfo(device),
        lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device),
        lambda: nvml.nvmlDeviceGetName(device),
        lambda: here.device(1),
    ):
        with pytest.raises(nvml.NVMLError_GpuIsLost):
            call()
    assert nvml.nvmlDeviceGetPowerUsage(here.device(0)) == 100_000


def test_a_call_can_take_long_or_be_stuck(play: Play) -> None:
    scenario = Scenario((h100(faults=(Fault("memory", STALL, end=0.3),)),), costs_s={"name": 0.1})
    nvml = play(scenario)
    nvml.nvmlInit()
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    nvml.nvmlDeviceGetMemoryInfo(device)
    assert (after := scenario.now()) >= 0.3
    nvml.nvmlDeviceGetName(device)
    assert (later := scenario.now()) >= after + 0.1
    nvml.nvmlDeviceGetPcieThroughput(device, real.NVML_PCIE_UTIL_TX_BYTES)
    assert scenario.now() >= later + 0.02  # it counts for so long
