"""The real driver's answers: what the played device claims of them is in tests/harness/telemetry."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import pytest

from innerloop.harness.machine.gpus import Gpu
from innerloop.harness.telemetry.device import MISSING, SLOT, Row
from innerloop.harness.telemetry.nvml import NvmlDevice

pytestmark = pytest.mark.gpu


@pytest.fixture
def device(gpu: Gpu) -> Iterator[NvmlDevice]:
    opened = NvmlDevice(gpu.uuid)
    yield opened
    opened.close()


def test_the_driver_answers_power_energy_memory_and_clocks(device: NvmlDevice) -> None:
    row: Row = list(MISSING)
    assert device.fast(row)
    assert device.medium(row)
    assert 5 < row[SLOT["power_instant_w"]] < 2000
    assert row[SLOT["energy_j"]] > 0
    assert row[SLOT["memory_used_bytes"]] > 0
    assert row[SLOT["sm_clock_mhz"]] > 0
    assert 0 < row[SLOT["temperature_c"]] < 110


def test_the_energy_counter_rises_by_about_the_power(device: NvmlDevice) -> None:
    """Both between the same readings, whenever these were."""
    times: list[float] = []
    powers, energies = [], []
    while not times or times[-1] - times[0] < 5.0 or len(times) < 50:
        row: Row = list(MISSING)
        device.fast(row)
        times.append(time.monotonic())
        powers.append(row[SLOT["power_instant_w"]])
        energies.append(row[SLOT["energy_j"]])
        time.sleep(0.02)
    assert math.isclose(energies[-1] - energies[0], np.trapezoid(powers, times), rel_tol=0.25)


def test_what_is_said_to_be_supported_is_answered(device: NvmlDevice) -> None:
    time.sleep(0.2)  # activity is counted since the last reading
    row: Row = list(MISSING)
    device.fast(row)
    device.medium(row)
    if device.supported["gpm"]:
        assert 0 <= row[SLOT["sm_activity"]] <= 1
        assert 0 <= row[SLOT["dram_bandwidth"]] <= 1
    assert device.processes() is not None
