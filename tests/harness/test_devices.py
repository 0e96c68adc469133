"""Device telemetry of runs beside which played devices do what is known exactly: one of torch, the others of the
scripted engine.

A device is sampled when a busy machine lets it be, so that what is known exactly is held against the run's own samples:
their times say how far off a figure can be.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from innerloop.harness.analysis.energy import update_period_s
from innerloop.harness.cli.words import number
from innerloop.harness.result.suspect import SAMPLING_GAP_S
from innerloop.harness.result.suspect_device import THROTTLES
from innerloop.harness.session.phases import WORDS
from innerloop.harness.telemetry.samplers import IDLE_S
from tests.nvml.devices import GIB, HW_THERMAL, SW_POWER_CAP, h100, mig_slice
from tests.nvml.library import NAME
from tests.nvml.runs import TORCH, Played, Stage, played_run
from tests.nvml.scenario import NEVER, STALL, ZERO, Cells, Event, Fault, Process, Scenario, constant, levels, ramp, wave

pytestmark = pytest.mark.real
NOT_SUPPORTED, GPU_IS_LOST = 3, 15
OF_DEVICES = {
    "throttled",
    "low_clocks",
    "foreign_process",
    "device_sampling_gap",
    "power_cap",
    "energy_mismatch",
    "temperature_rising",
    "device_lost",
    "window_too_short_for_energy",
}


# ---- two devices that work ----

POWERS = (wave(400, 150, 3.1), levels((2.3, 250), (1.1, 500), repeats=True, ripple=4))
MEMORY = {"start": 2 * GIB, "load": 21 * GIB, "warmup": 23 * GIB, "measure": 25 * GIB, "close": 3 * GIB}
OF_WORKER = 17 * GIB


@pytest.fixture(scope="module")
def well(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """A run beside two devices; on both, memory follows the run's phases, and the worker is listed."""
    folder = tmp_path_factory.mktemp("well")
    cells = Cells(folder / "cells")
    used, pid = cells.new(MEMORY["start"]), cells.new(0)
    told = [cells.new(0) for _ in POWERS]
    parts = tuple(
        h100(i, power, curves={"memory_used_bytes": used}, processes=(Process(pid, OF_WORKER),), told=told[i])
        for i, power in enumerate(POWERS)
    )

    def steer(stage: Stage) -> None:
        pid.set(stage.worker_pid)
        if stage.phase in MEMORY:
            used.set(MEMORY[stage.phase])
            stage.hold(lambda: all(one.get() == MEMORY[stage.phase] for one in told))

    return played_run(Scenario(parts, cells), nvml_library, folder, engine=TORCH, warmup_tokens=200, on_phase=steer)


@pytest.mark.parametrize("index", [0, 1])
def test_energy_is_the_waveforms_integral(well: Played, index: int) -> None:
    energy, exact = well.device(index)["energy_j"], well.exact_j(POWERS[index])
    assert energy["source"] == "counter"
    assert energy["window"] == energy["counter"] == pytest.approx(exact, abs=well.doubt_j(index))
    check_integral(well, index)


def check_integral(run: Played, index: int) -> None:
    """The integral is that of the power readings that there are, and what it differs by from the counter is told."""
    energy, integral = run.device(index)["energy_j"], run.integral_j(index)
    assert energy["integral"] == (None if integral is None else pytest.approx(integral))
    apart = None if integral is None else pytest.approx(integral / energy["counter"] - 1, abs=1e-6)
    assert energy["counter_integral_difference"] == apart


@pytest.mark.parametrize("index", [0, 1])
def test_energy_is_divided_by_tokens_and_set_off_from_idle(well: Played, index: int) -> None:
    device, tokens = well.device(index), well.result["counts"]["output_tokens"]
    energy, (start, end) = device["energy_j"], well.window
    job = json.loads((well.folder / "job.json").read_text())
    first, spawned = map(well.scenario.seconds, (well.rows(f"gpu{index}")["time_ns"][0], job["spawn_ns"]))
    assert spawned - first >= IDLE_S
    times, joules = well.known(index, "energy_j")
    ends = np.array([spawned, *times[(times > spawned) & (times < start)]])  # the worker was named at one, or between
    usual_w = (np.interp(ends, times, joules) - joules[0]) / (ends - first)
    doubt_w = (joules[2] - joules[0]) / (spawned - first)
    assert usual_w.min() - doubt_w <= device["idle_power_w"] <= usual_w.max() + doubt_w
    assert energy["above_idle"] == pytest.approx(energy["window"] - device["idle_power_w"] * (end - start))
    assert energy["per_token"] == pytest.approx(energy["window"] / tokens)
    assert energy["per_token_above_idle"] == pytest.approx(energy["above_idle"] / tokens)
    assert energy["tokens_per_j"] == pytest.approx(tokens / energy["window"])


def test_the_totals_are_those_of_all_devices(well: Played) -> None:
    total = well.result["telemetry"]["energy_j"]["devices"]
    assert total["window"] == pytest.approx(sum(well.device(index)["energy_j"]["window"] for index in (0, 1)))
    assert total["per_token"] == pytest.approx(total["window"] / well.result["counts"]["output_tokens"])


@pytest.mark.parametrize("index", [0, 1])
def test_power_readings_are_those_of_the_part(well: Played, index: int) -> None:
    """Each is the mean of the 25 ms before an update, of which there is one every 100 ms: one of those up to the next
    sample, before which it was read."""
    times, watts = well.known(index, "power_instant_w")
    curve, ticks = POWERS[index], [math.floor(time / 0.1) for time in times]
    for one, tick, following in zip(watts, ticks, ticks[1:], strict=False):
        near = [curve.integral(t * 0.1 - 0.025, t * 0.1) / 0.025 for t in range(tick - 1, following + 2)]
        assert min(abs(one - of_part) for of_part in near) < 0.01
    assert len(times) == len(well.rows(f"gpu{index}")["time_ns"]) > 2
    device = well.device(index)
    assert device["power_w"]["mean"] == pytest.approx(well.known(index, "power_instant_w", within=True)[1].mean())
    assert device["power_w"]["p50"] <= device["power_w"]["p90"] <= device["power_w"]["max"] <= 550
    assert device["power_limit_w"] == 700


def test_the_update_period_of_the_power_reading_is_measured(well: Played) -> None:
    """By the samples that there are: that they then tell the device's own is shown in analysis/test_energy.py."""
    times, watts = well.known(0, "power_instant_w", within=True)
    measured = update_period_s(np.round(times * 1e9), watts)
    assert measured is not None
    assert well.device(0)["update_period_s"] == pytest.approx(measured, rel=1e-3)


@pytest.mark.parametrize("index", [0, 1])
def test_memory_is_told_phase_by_phase(well: Played, index: int) -> None:
    memory = well.device(index)["memory_bytes"]
    assert memory["before_load"] == MEMORY["start"]
    assert memory["after_load"] == MEMORY["load"]
    assert memory["after_warmup"] == MEMORY["warmup"]
    assert memory["peak"] == MEMORY["measure"]
    assert memory["worker"] == OF_WORKER
    assert memory["total"] == 80 * GIB
    # the engine's weights and KV cache lie in the host's memory here
    assert memory["weights"] is memory["kv_cache"] is memory["rest"] is None


@pytest.mark.parametrize("index", [0, 1])
def test_the_rest_of_what_is_sampled_is_right(well: Played, index: int) -> None:
    device = well.device(index)
    assert device["uuid"] == well.scenario.devices[index].uuid
    assert (device["name"], device["driver"], device["mig"]) == ("NVIDIA H100 80GB HBM3", "580.65.06", None)
    assert set(device["supported"].values()) == {True}
    assert device["utilization"] == {"gpu": pytest.approx(0.9), "memory": pytest.approx(0.5)}
    assert device["clocks_mhz"]["sm"]["mean"] == device["clocks_mhz"]["sm"]["max_possible"] == 1980
    assert device["clocks_mhz"]["memory"]["mean"] == 2619
    assert device["temperature_c"]["start"] == device["temperature_c"]["max"] == 50
    assert device["memory_temperature_c"]["max"] == 60
    assert device["event_reasons"] == []
    activity = {"sm_activity": 0.8, "sm_occupancy": 0.4, "tensor_activity": 0.3, "dram_bandwidth": 0.7}
    assert {name: device["gpm"][name] for name in activity} == pytest.approx(activity)
    traffic = {"pcie": (3e6, 5e6), "nvlink": (7e6, 11e6)}
    for link, (sent, received) in traffic.items():
        found = device[f"{link}_bytes_per_s"]
        assert (found["tx"], found["rx"]) == (pytest.approx(sent, rel=0.01), pytest.approx(received, rel=0.01))
    assert device["missing_from_s"] is device["missing_reason"] is None
    assert device["foreign_processes"] == []
    assert device["faults"] == {}


@pytest.mark.parametrize("index", [0, 1])
def test_the_sampler_tells_what_it_cost(well: Played, index: int) -> None:
    cost = well.result["telemetry"]["sampler"][f"gpu{index}"]
    assert cost["interval_s"] == well.device(index)["interval_s"] == 0.05
    assert cost["samples"] == well.device(index)["samples"] > 2
    assert 0 <= cost["late_p50_s"] <= cost["late_p99_s"]
    assert cost["cpu_s"] > 0
    assert 0 < cost["cpu_share"] < 1
    assert cost["error"] is None


def test_a_device_that_works_well_raises_no_suspicion(well: Played) -> None:
    assert OF_DEVICES & set(well.reasons()) == well.starved(0) | well.starved(1)


def test_the_report_has_a_line_of_power_utilization_and_memory(well: Played) -> None:
    lines = well.stdout.splitlines()
    assert any("GPU 0" in line for line in lines)
    assert any("GPU 1" in line for line in lines)
    assert "W" in well.stdout
    assert "25" in well.stdout
    progress = tuple(f"{words}   " for words in WORDS.values())  # every ten seconds; how many is the machine's affair
    assert all(" W" in line for line in well.stderr.splitlines() if line.startswith(progress)), well.stderr


# ---- one that stumbles, and one that is lost in the middle ----


@pytest.fixture(scope="module")
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "3600"]) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def ill(
    nvml_library: Path, tmp_path_factory: pytest.TempPathFactory, stranger: subprocess.Popen[bytes]
) -> tuple[Played, float]:
    """The run, and when GPU 1 was lost, in the scenario's seconds."""
    folder = tmp_path_factory.mktemp("ill")
    cells = Cells(folder / "cells")
    lost, appears = cells.new(NEVER), cells.new(NEVER)
    stumbling = (
        Fault("power_instant", ZERO, every=7),
        Fault("memory", NOT_SUPPORTED, every=5),
        Fault("energy", NOT_SUPPORTED, every=6),
        Fault("clocks", NOT_SUPPORTED, every=4),
    )
    scenario = Scenario(
        (
            h100(0, POWERS[0], faults=stumbling, processes=(Process(stranger.pid, 9 * GIB, start=appears),)),
            h100(1, POWERS[1], faults=(Fault("*", GPU_IS_LOST, start=lost),)),
        ),
        cells,
    )

    def steer(stage: Stage) -> None:
        if stage.phase == "measure":
            appears.set(scenario.now())
            lost.set(scenario.now() + 1.0)

    return played_run(scenario, nvml_library, folder, on_phase=steer), lost.get()


def test_readings_that_fail_now_and_then_are_left_out_and_counted(ill: tuple[Played, float]) -> None:
    run, _ = ill
    device, rows = run.device(0), run.rows("gpu0")
    assert device["energy_j"]["window"] == pytest.approx(run.exact_j(POWERS[0]), abs=run.doubt_j(0))
    check_integral(run, 0)
    assert device["faults"]["zero_power"] > 0
    assert device["faults"]["refused"] > 0
    assert min(watts for watts in rows["power_instant_w"] if watts is not None) > 200
    assert rows["power_instant_w"].count(None) >= device["faults"]["zero_power"]
    assert {size for size in rows["memory_used_bytes"] if size is not None} == {GIB}
    assert set(device["supported"].values()) == {True}
    assert OF_DEVICES & set(run.reasons(0)) == {"foreign_process"} | run.starved(0)


def test_another_process_on_the_device_is_named(ill: tuple[Played, float], stranger: subprocess.Popen[bytes]) -> None:
    run, _ = ill
    [foreign] = run.device(0)["foreign_processes"]
    assert foreign == {"pid": stranger.pid, "name": "sleep", "peak_bytes": 9 * GIB}
    assert "sleep" in run.reasons(0)["foreign_process"]
    assert str(stranger.pid) in run.reasons(0)["foreign_process"]
    assert run.result["status"] == "suspect"


def test_a_lost_device_ends_its_telemetry_and_not_the_run(ill: tuple[Played, float]) -> None:
    run, lost_s = ill
    device, rows = run.device(1), run.rows("gpu1")
    start, end = run.window
    assert start < lost_s < end
    assert run.result["failure"] is None
    steps = pq.read_table(run.folder / "steps.parquet")["end_ns"].to_pylist()
    assert run.scenario.seconds(steps[-1]) > lost_s
    last = max(map(run.scenario.seconds, rows["time_ns"]))
    assert last < lost_s
    assert last < start + device["missing_from_s"] < end
    assert "lost" in device["missing_reason"].lower()
    assert f"{device['missing_from_s']:.1f} s" in run.reasons(1)["device_lost"]
    energy = device["energy_j"]
    assert energy["window"] is energy["per_token"] is energy["counter_integral_difference"] is None
    assert "lost" in energy["note"]
    assert run.device(0)["missing_from_s"] is None
    assert run.result["telemetry"]["energy_j"]["devices"]["window"] is None  # a part would pass for the whole


# ---- five that mislead or hang ----

HIDDEN = levels((0.06, 650), (0.04, 100), repeats=True)  # the windows of 25 ms see only the second level


@pytest.fixture(scope="module")
def strained(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Played, dict[str, float]]:
    """The run, and when what began or ended, in the scenario's seconds."""
    folder = tmp_path_factory.mktemp("strained")
    cells = Cells(folder / "cells")
    moments = {name: cells.new(NEVER) for name in ("cap", "uncap", "heat", "stall", "resume", "hang")}
    slow = {"sm_mhz": constant(1300), "temperature_c": ramp(100_000, 20, 500_020)}
    capped = (
        Event(SW_POWER_CAP, moments["cap"], moments["uncap"]),
        Event(HW_THERMAL, moments["heat"], moments["uncap"]),
    )
    scenario = Scenario(
        (
            h100(0, POWERS[0], numbers={"energy_before_j": None}),
            h100(1, HIDDEN),
            h100(2, POWERS[1], events=capped, curves=slow),
            h100(3, POWERS[1], faults=(Fault("*", STALL, start=moments["stall"], end=moments["resume"]),)),
            h100(4, POWERS[1], faults=(Fault("*", STALL, start=moments["hang"]),)),
        ),
        cells,
    )

    def steer(stage: Stage) -> None:
        if stage.phase == "measure":
            now = scenario.now()
            for name, after_s in {"cap": 0, "heat": 3, "uncap": 7, "resume": 7, "stall": 2, "hang": 2}.items():
                moments[name].set(now + after_s)

    run = played_run(scenario, nvml_library, folder, on_phase=steer)
    return run, {name: moment.get() for name, moment in moments.items()}


Strained = tuple[Played, dict[str, float]]


def test_without_a_counter_the_integral_is_the_energy(strained: Strained) -> None:
    run, _ = strained
    energy, integral = run.device(0)["energy_j"], run.integral_j(0)
    assert energy["window"] == energy["integral"] == (None if integral is None else pytest.approx(integral))
    assert (energy["counter"], energy["counter_integral_difference"]) == (None, None)
    assert run.device(0)["supported"]["energy"] is False
    if integral is not None:  # the device was sampled all the time
        assert energy["source"] == "integral"
        assert "no working energy counter" in energy["note"]
    assert set(run.reasons(0)) == run.starved(0)


def test_bursts_that_the_power_reading_misses_are_told_by_the_counter(strained: Strained) -> None:
    run, _ = strained
    start, end = run.window
    energy, integral = run.device(1)["energy_j"], run.integral_j(1)
    assert energy["window"] == pytest.approx(run.exact_j(HIDDEN), abs=run.doubt_j(1))
    check_integral(run, 1)
    if integral is not None:  # the device was sampled all the time
        assert integral == pytest.approx(100 * (end - start), rel=1e-3)
        assert "%" in run.reasons(1)["energy_mismatch"]
    assert set(run.reasons(1)) == run.starved(1)


def test_throttling_low_clocks_and_rising_heat_are_suspect(strained: Strained) -> None:
    run, when = strained
    start, end = run.window
    held = {one["reason"]: one["seconds"] for one in run.device(2)["event_reasons"]}
    times, _ = run.known(2, "event_reasons", within=True)
    doubt_s = 2 * np.diff(times).max()
    for reason, began in {"sw_power_cap": "cap", "hw_thermal_slowdown": "heat"}.items():
        assert held.pop(reason) == pytest.approx(min(when["uncap"], end) - max(when[began], start), abs=doubt_s)
        assert reason in THROTTLES
    assert held == {}
    reasons = run.reasons(2)
    assert set(reasons) == {"power_cap", "throttled", "low_clocks", "temperature_rising"} | run.starved(2)
    assert f"{number(1300)} MHz" in reasons["low_clocks"]
    assert "sw_power_cap" in reasons["power_cap"]
    assert "hw_thermal_slowdown" in reasons["throttled"]


def test_a_driver_that_hangs_leaves_a_gap_that_is_told(strained: Strained) -> None:
    run, when = strained
    times, _ = run.known(3, "energy_j")
    assert ((times > when["stall"]) & (times < when["resume"])).sum() <= 1  # the reading that hung
    assert run.result["telemetry"]["sampler"]["gpu3"]["longest_gap_s"] > SAMPLING_GAP_S
    assert "device_sampling_gap" in run.reasons(3)
    energy = run.device(3)["energy_j"]
    assert energy["window"] == pytest.approx(run.exact_j(POWERS[1]), abs=run.doubt_j(3))  # the counter went on
    assert energy["integral"] is None


def test_a_driver_that_never_returns_does_not_hold_up_the_end(strained: Strained) -> None:
    run, when = strained
    device, (start, _), rows = run.device(4), run.window, run.rows("gpu4")
    last = max(map(run.scenario.seconds, rows["time_ns"]))
    assert last < when["hang"]
    assert device["missing_from_s"] == pytest.approx(last - start)
    assert "has not returned" in device["missing_reason"]
    assert device["energy_j"]["window"] is None
    assert "device_lost" in run.reasons(4)
    assert run.result["telemetry"]["sampler"]["gpu4"]["error"] == device["missing_reason"]


# ---- a slice, and no driver ----


def test_a_slice_has_its_own_memory_and_the_whole_devices_power(nvml_library: Path, tmp_path: Path) -> None:
    part = mig_slice(1, constant(6 * GIB))
    scenario = Scenario((h100(0), h100(1, POWERS[0], numbers={"mig": 1}, slices=(mig_slice(0), part))))
    run = played_run(scenario, nvml_library, tmp_path, seconds=4, CUDA_VISIBLE_DEVICES=part.uuid)
    [device] = run.result["telemetry"]["devices"]
    whole = {"parent_uuid": scenario.devices[1].uuid, "gpu_instance": 2, "compute_instance": 0}
    assert (device["uuid"], device["mig"]) == (part.uuid, whole)
    assert (device["memory_bytes"]["peak"], device["memory_bytes"]["total"]) == (6 * GIB, 40 * GIB)
    assert device["energy_j"]["window"] == pytest.approx(run.exact_j(POWERS[0]), abs=run.doubt_j(1))
    assert "slice" in device["energy_j"]["note"]
    assert device["gpm"]["sm_activity"] == pytest.approx(0.6)
    assert device["supported"]["utilization"] is False
    assert device["utilization"] == {"gpu": None, "memory": None}


def test_without_a_driver_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()  # nothing that the loader can load, whatever else this machine has
    run = played_run(Scenario(()), tmp_path, tmp_path, seconds=2)
    telemetry = run.result["telemetry"]
    assert telemetry["devices"] is None
    assert telemetry["energy_j"]["devices"] is None
    assert [source for source in telemetry["sampler"] if source.startswith("gpu")] == []
    assert [note for note in run.result["notes"] if "driver" in note] == [
        "no device telemetry: no NVIDIA driver on this machine"
    ]
    assert not OF_DEVICES & set(run.reasons())
    said = run.stdout + run.stderr
    assert said.count("no NVIDIA driver on this machine") == 1
    assert not [word for word in ("Warning", "Traceback", "NVML", "pynvml") if word in said]
