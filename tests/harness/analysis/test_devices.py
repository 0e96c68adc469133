"""The result's devices and their energy, from what samplers saw."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker.trace import STEP
from innerloop.harness.analysis.devices import Window, cpu_energy_j, describe, missing, per_token, total_energy_j
from innerloop.harness.analysis.samples import Samples
from innerloop.harness.schema.telemetry import Device, Mig, PerToken, TotalEnergy
from innerloop.harness.telemetry.powercap import CPU_ENERGY
from tests.harness.analysis.test_device import GIB, PHASES, samples, wave
from tests.harness.conftest import SECOND, Make, table

START, END = 5 * SECOND, 25 * SECOND
FACTS = {
    "kind": "device",
    "index": 0,
    "uuid": "GPU-0",
    "name": "H100",
    "mig": None,
    "idle_until_ns": 2 * SECOND,
    "followed_ns": 2 * SECOND,
    "supported": {"gpm": False, "processes": True},
    "memory_total_bytes": 80 * GIB,
    "processes": [],
}


def sampled(rows: np.ndarray | None = None, error: str | None = None, **facts: Any) -> Samples:
    return Samples("gpu0", wave() if rows is None else rows, 0.05, 0.1, error, {**FACTS, **facts})


@pytest.fixture
def window(make_steps: Make) -> Window:
    """20 s: 4 s of steps with prefill, 16 s of decode steps; 200 tokens."""
    start = np.arange(5000, 25000, 100)
    prefill = np.where(start < 9000, 64, 0)
    steps = make_steps(start, start + 100, prefill_tokens=prefill, output_tokens=np.ones(200))
    return Window(START, END, steps, PHASES, {"weights": 8 * GIB, "kv_cache": None})


def test_a_devices_entry_has_energy_a_token_and_a_kind_of_steps(window: Window) -> None:
    [found] = describe([sampled()], window)
    energy = found.energy_j
    assert energy.window == pytest.approx(9400, rel=1e-3)
    assert energy.per_token == pytest.approx(47, rel=1e-3)
    assert energy.per_token_above_idle == pytest.approx(40, rel=0.02)
    assert energy.tokens_per_j == pytest.approx(200 / 9400, rel=1e-3)
    assert energy.prefill_steps == pytest.approx(4 * 470, rel=0.02)
    assert energy.decode_only_steps == pytest.approx(16 * 470, rel=0.02)
    assert energy.note is None
    assert (found.missing_from_s, found.missing_reason, found.gpm) == (None, None, None)
    assert (found.source, found.interval_s, found.samples) == ("gpu0", 0.05, 401)


def test_the_steady_windows_energy_is_over_its_own_tokens(window: Window) -> None:
    # from 10 s to 20 s: 100 steps of a token each at 470 W
    [found] = describe([sampled()], replace(window, steady=(10 * SECOND, 20 * SECOND)))
    assert found.energy_j.steady == pytest.approx(4700, rel=1e-2)
    assert found.energy_j.steady_per_token == pytest.approx(47, rel=1e-2)
    assert describe([sampled()], window)[0].energy_j.steady is None


def test_what_heats_the_device_after_it_was_measured_idle_is_no_idle_power(window: Window) -> None:
    # 70 W for 2 s, the ceilings at 650 W until the worker is named at 4 s, then the window
    seconds = np.arange(0, 30, 0.05)
    watts = np.where((seconds >= 2) & (seconds < 4), 650.0, np.where(seconds < 5, 70.0, 470.0))
    rows = samples(seconds.tolist(), power_instant_w=watts, energy_j=np.cumsum(np.append(0, watts[:-1])) * 0.05)
    [found] = describe([sampled(rows, idle_until_ns=2 * SECOND, followed_ns=4 * SECOND)], window)
    assert found.idle_power_w == pytest.approx(70, rel=0.02)


def test_devices_share_what_the_engine_allotted(window: Window) -> None:
    first, second = describe([sampled(), sampled(uuid="GPU-1")], window)
    assert first.memory_bytes.weights == second.memory_bytes.weights == 4 * GIB
    assert first.memory_bytes.kv_cache is None


def test_an_engine_that_hides_its_prefill_gets_no_energy_by_phase(window: Window) -> None:
    window.steps["prefill_tokens"][7] = -1
    [found] = describe([sampled()], window)
    assert found.energy_j.prefill_steps is None
    assert "does not report which steps had prefill" in str(found.energy_j.note)


def test_a_slices_energy_is_said_to_be_the_whole_gpus(window: Window) -> None:
    mig = {"parent_uuid": "GPU-0", "gpu_instance": 1, "compute_instance": 0}
    [found] = describe([sampled(mig=mig, uuid="MIG-1")], window)
    assert "this slice shares with others" in str(found.energy_j.note)


@pytest.mark.parametrize(("since_s", "expected_s"), [(15, 10.0), (1, -4.0)])
def test_a_lost_device_says_since_when_and_claims_no_energy(window: Window, since_s: int, expected_s: float) -> None:
    rows = wave()
    lost = rows[rows["time_ns"] < since_s * SECOND]
    [found] = describe([sampled(lost, missing_from_ns=since_s * SECOND, missing_reason="GPU is lost")], window)
    assert (found.missing_from_s, found.missing_reason) == (expected_s, "GPU is lost")
    assert found.energy_j.window is None
    assert "lost" in str(found.energy_j.note)


def test_a_sampler_that_ended_early_is_missing_from_its_last_sample_on() -> None:
    rows = samples([1, 2, 3])
    assert missing(sampled(rows, error="RuntimeError: no"), START, END) == (3 * SECOND, "RuntimeError: no")
    assert missing(sampled(samples([]), error="x"), START, END) == (2 * SECOND, "x")
    assert missing(sampled(rows), START, END) == (None, None)


def test_what_is_lost_after_the_window_does_not_matter_to_it() -> None:
    assert missing(sampled(missing_from_ns=END + 1, missing_reason="x"), START, END) == (None, None)
    assert missing(sampled(missing_from_ns=END + 1, missing_reason="x"), 0, 0) == (END + 1, "x")


def test_a_worker_that_the_driver_does_not_list_is_said_to_be_unknown(window: Window) -> None:
    own = {"pid": 7, "name": "python", "own": True, "first_ns": 0, "last_ns": END, "peak_bytes": GIB}
    assert "does not list the worker's processes" in str(describe([sampled()], window)[0].memory_note)
    assert describe([sampled(processes=[own])], window)[0].memory_note is None


def test_a_device_that_was_never_sampled_has_an_entry_without_figures(window: Window) -> None:
    never = Samples("gpu3", samples([]), 0.05, 0.0, None, {"kind": "device", "index": 3, "uuid": "GPU-3"})
    [found] = describe([never], window)
    assert (found.index, found.samples, found.energy_j.window) == (3, 0, None)
    [found] = describe([sampled()], Window(0, 0, window.steps[:0], {}, {}))
    assert (found.samples, found.energy_j.per_token) == (0, None)


def entry(uuid: str, joules: float | None, parent: str | None = None) -> Device:
    """A device that used this much, half of it above idle."""
    [device] = describe([sampled(uuid=uuid)], Window(0, 0, np.empty(0, STEP), {}, {}))
    energy = replace(device.energy_j, window=joules, above_idle=None if joules is None else joules / 2, steady=joules)
    return replace(device, mig=None if parent is None else Mig(parent, 1, 0), energy_j=energy)


def test_the_devices_energy_adds_up() -> None:
    assert total_energy_j([entry("A", 100), entry("B", 300)], 50, 40) == TotalEnergy(
        window=400,
        above_idle=200,
        dram=None,
        per_token=8,
        per_token_above_idle=4,
        tokens_per_j=0.125,
        steady=400,
        steady_per_token=10,
    )


def test_two_slices_of_a_gpu_use_its_energy_once() -> None:
    total = total_energy_j([entry("MIG-1", 100, "A"), entry("MIG-2", 100, "A")], 50)
    assert total is not None
    assert total.window == 100


def test_devices_that_do_not_say_who_they_are_are_not_one_and_the_same() -> None:
    one, two = (replace(entry("A", joules), uuid=None) for joules in (100, 300))
    total = total_energy_j([one, two], 50)
    assert total is not None
    assert total.window == 400


def test_a_part_does_not_pass_for_the_whole() -> None:
    total = total_energy_j([entry("A", 100), entry("B", None)], 50)
    assert total == TotalEnergy(None, None, None, None)
    assert total_energy_j([], 50) is None


def test_without_tokens_there_is_no_energy_a_token() -> None:
    assert per_token(100.0, 50.0, 0) == PerToken(per_token=None, per_token_above_idle=None, tokens_per_j=0)
    assert per_token(None, None, 5) == PerToken(None, None, None)


def test_the_cpus_energy_is_apart(window: Window) -> None:
    seconds = np.arange(0, 30, 0.2)
    rows = table(
        CPU_ENERGY,
        time_ns=seconds * SECOND,
        late_ns=np.zeros(150),
        package_j=seconds * 120,
        dram_j=np.full(150, np.nan),
    )
    found = cpu_energy_j(Samples("cpu", rows, 0.2, 0.0), replace(window, steady=(START + SECOND, END)))
    assert found is not None
    assert found.window == pytest.approx(2400)
    assert found.per_token == pytest.approx(2400 / 200)
    assert found.steady == pytest.approx(120 * 19)
    assert found.dram is None
    assert cpu_energy_j(None, window) is None
