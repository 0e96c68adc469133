"""A device's figures, from samples made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis import device
from innerloop.harness.analysis.device_facts import SeenProcess
from innerloop.harness.schema.telemetry import (
    Clock,
    ClockEvent,
    DeviceMemory,
    LinkRates,
    PowerSummary,
    Temperature,
)
from innerloop.harness.telemetry.device import DEVICE
from tests.harness.conftest import SECOND, table

HOT = 0x40


def samples(seconds: list[float], **columns: Any) -> np.ndarray:
    """Samples at those times; a column that is not given is missing."""
    return table(DEVICE, time_ns=np.multiply(seconds, SECOND), late_ns=np.zeros(len(seconds)), **columns)


def test_event_reasons_have_names_and_unknown_bits_their_number() -> None:
    assert device.reason_names(0x44) == ["sw_power_cap", "hw_thermal_slowdown"]
    assert device.reason_names(1 << 40) == ["bit_40"]
    assert device.reason_names(0) == []


def test_power_is_the_instant_reading_or_else_the_average() -> None:
    rows = samples([0, 1, 2], power_instant_w=[100, np.nan, 300], power_average_w=[50, 50, 50])
    assert device.power_w(rows) == PowerSummary(mean=200, p50=200, p90=None, p99=None, max=300)
    rows["power_instant_w"] = np.nan
    assert device.power_w(rows).mean == 50
    assert device.power_w(samples([0, 1])) == PowerSummary(None, None, None, None, None)
    many = samples([*range(101)], power_instant_w=[*range(100, 201)], power_average_w=[0] * 101)
    assert device.power_w(many) == PowerSummary(mean=150, p50=150, p90=190, p99=199, max=200)


def test_clocks_are_judged_while_the_device_works() -> None:
    rows = samples([0, 1, 2, 3], sm_clock_mhz=[300, 1900, -1, 1500], event_reasons=[1, 0, 0, 4])
    found = device.clocks_mhz(rows, 1980, None)
    assert found.sm == Clock(mean=3700 / 3, min=300, max=1900, busy_mean=1700, max_possible=1980)
    assert found.memory == Clock(None, None, None, None, None)


def test_without_event_reasons_utilization_says_when_it_works() -> None:
    rows = samples([0, 1, 2], sm_clock_mhz=[300, 1900, 1700], gpu_utilization=[0.0, 0.9, np.nan])
    assert device.clocks_mhz(rows, None, None).sm.busy_mean == 1900


def test_each_event_reason_holds_until_the_next_reading() -> None:
    rows = samples([0, 1, 1.5, 3], event_reasons=[0, HOT | 4, -1, 4])
    assert device.event_reasons(rows, 0, 4 * SECOND) == (
        ClockEvent("sw_power_cap", 3.0),
        ClockEvent("hw_thermal_slowdown", 2.0),
    )
    assert device.event_reasons(samples([0, 1]), 0, 2 * SECOND) == ()


def test_an_event_reason_counts_inside_the_window_only() -> None:
    """The rows have a neighbour on either side of the window."""
    rows = samples([0, 2, 3, 5], event_reasons=[HOT, 4, 0, HOT])
    assert device.event_reasons(rows, 2 * SECOND, 4 * SECOND) == (ClockEvent("sw_power_cap", 1.0),)
    assert device.event_reasons(rows, SECOND, 4 * SECOND) == (
        ClockEvent("sw_power_cap", 1.0),
        ClockEvent("hw_thermal_slowdown", 1.0),
    )


def test_temperature_has_its_course() -> None:
    rows = samples(list(range(41)), temperature_c=np.append(np.linspace(40, 60, 40), 99))
    found = device.temperature_c(rows)
    assert found.start == pytest.approx(40, abs=1)
    assert found.middle == pytest.approx(50, abs=1)
    assert found.end == pytest.approx(79.5, abs=0.1)
    assert found.max == 99
    assert device.temperature_c(samples([0])) == Temperature(None, None, None, None)


def test_byte_counters_are_interpolated_to_the_windows_edges() -> None:
    rows = samples([0, 2, 4], pcie_tx_bytes=[0, 2000, 4000], pcie_rx_bytes=[5, -1, 4005])
    found = device.rates(rows, rows, "pcie", SECOND, 3 * SECOND)
    assert found == LinkRates(tx=1000, rx=1000, source="counter")


@pytest.mark.parametrize(
    "counts", [[0, 2000, 100], [-1, -1, -1], [-1, 1000, 2000]], ids=["wrapped", "missing", "begins too late"]
)
def test_a_counter_that_cannot_tell_gives_no_rate(counts: list[int]) -> None:
    rows = samples([0, 2, 4], nvlink_tx_bytes=counts, nvlink_rx_bytes=[0, 1, 2])
    assert device.rates(rows, rows, "nvlink", SECOND, 3 * SECOND) == LinkRates(tx=None, rx=None, source=None)


def test_rates_of_gpm_come_first() -> None:
    rows = samples(
        [0, 2],
        gpm_pcie_tx_bytes_per_s=[10, np.nan],
        gpm_pcie_rx_bytes_per_s=[20, 30],
        pcie_tx_bytes=[0, 9],
        pcie_rx_bytes=[0, 9],
    )
    assert device.rates(rows, rows, "pcie", 0, 2 * SECOND) == LinkRates(tx=10, rx=25, source="gpm")


GIB = 1 << 30
PHASES = {"load": 1 * SECOND, "warmup": 3 * SECOND, "measure": 5 * SECOND}


def test_memory_is_read_at_the_end_of_each_phase_and_split() -> None:
    used = np.array([1, 1, 8, 9, 10, 10, 12, 11]) * GIB
    rows = samples([0, 0.9, 2, 2.9, 4, 4.9, 6, 7], memory_used_bytes=used, memory_worker_bytes=[-1] * 6 + [9 * GIB, -1])
    held = {"weights": 4 * GIB, "kv_cache": 5 * GIB}
    found = device.memory_bytes(rows, PHASES, rows[5:], 80 * GIB, held)
    assert found == DeviceMemory(
        before_load=1 * GIB,
        after_load=9 * GIB,
        after_warmup=10 * GIB,
        peak=12 * GIB,
        worker=9 * GIB,
        weights=4 * GIB,
        kv_cache=5 * GIB,
        rest=2 * GIB,  # 12 - 1 - 4 - 5
        total=80 * GIB,
    )


def test_memory_that_nobody_tells_is_missing() -> None:
    rows = samples([2, 4], memory_used_bytes=[GIB, GIB])
    found = device.memory_bytes(rows, {"load": SECOND}, rows, None, {})
    assert found == DeviceMemory(peak=GIB)


def seen(pid: int, first_s: float, last_s: float = 99, own: bool = False, name: str | None = None) -> SeenProcess:
    return SeenProcess(pid, name, own, first_ns=int(first_s * SECOND), last_ns=int(last_s * SECOND), peak_bytes=GIB)


@pytest.mark.parametrize(
    ("processes", "foreign"),
    [
        ([seen(1, 3, own=True)], []),
        ([seen(1, 3, own=True), seen(2, 3)], [2]),  # own ones are visible, so another number is another's
        ([seen(2, 0)], [2]),  # it was there before the worker
        ([seen(2, 3)], []),  # a container: it came with the worker, and has no name here
        ([seen(2, 3, name="python")], [2]),
        ([seen(2, 12)], [2]),  # it came while measuring, when the worker was there for long
        ([seen(2, 0, last_s=9)], []),  # it had gone before the window
        ([seen(2, 21)], []),  # it came after it
    ],
)
def test_strangers_are_told_from_the_worker(processes: list[SeenProcess], foreign: list[int]) -> None:
    found = device.strangers(processes, start_ns=10 * SECOND, end_ns=20 * SECOND, followed_ns=2 * SECOND)
    assert [one.pid for one in found] == foreign


def wave(seconds: float = 30.0, hz: float = 20.0) -> np.ndarray:
    """70 W for 2 s, then 470 W on average; a counter that is exact at every sample."""
    s = np.arange(0, seconds, 1 / hz)
    power = np.where(s < 2, 70.0, 470 + 100 * np.sin(2 * np.pi * s))
    energy = np.concatenate(([0], np.cumsum((power[1:] + power[:-1]) / 2 / hz)))
    return samples(s.tolist(), power_instant_w=power, energy_j=energy)


def test_energy_is_the_counters_with_idle_power_and_the_integral_beside_it() -> None:
    used, idle, curve = device.energy_j(wave(), 5 * SECOND, 25 * SECOND, 2 * SECOND, None)
    assert used.source == "counter"
    assert used.window == used.counter == pytest.approx(9400, rel=1e-3)
    assert used.counter_integral_difference == pytest.approx(0, abs=1e-6)
    assert idle == pytest.approx(70, rel=0.1)
    assert used.above_idle == pytest.approx(9400 - 20 * 70, rel=0.02)
    assert curve is not None


def test_without_a_counter_the_integral_stands_in() -> None:
    rows = wave()
    rows["energy_j"] = np.nan
    used, idle, _ = device.energy_j(rows, 5 * SECOND, 25 * SECOND, 2 * SECOND, None)
    assert (used.source, used.counter) == ("integral", None)
    assert used.window == pytest.approx(9400, rel=1e-3)
    assert idle == pytest.approx(70)


def test_a_counter_that_says_otherwise_is_compared() -> None:
    rows = wave()
    rows["energy_j"] *= 1.25
    used, _, _ = device.energy_j(rows, 5 * SECOND, 25 * SECOND, None, None)
    assert used.counter_integral_difference == pytest.approx(-0.2, abs=1e-3)
    assert used.above_idle is None


def test_of_a_device_that_was_lost_in_the_window_no_energy_is_claimed() -> None:
    used, idle, curve = device.energy_j(wave(), 5 * SECOND, 25 * SECOND, 2 * SECOND, missing_ns=24 * SECOND)
    assert used == device.WindowEnergy(None, None, None, None, None, None)
    assert idle is not None
    assert curve is None


def test_a_device_that_said_nothing_has_no_energy() -> None:
    used, idle, curve = device.energy_j(samples([]), 0, SECOND, 0, None)
    assert (used.window, used.source, idle, curve) == (None, None, None, None)
