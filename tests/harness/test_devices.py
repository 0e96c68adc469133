"""Device telemetry of real runs of the CPU engine, beside which played devices do what is known exactly."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from innerloop.harness.cli.words import number
from innerloop.harness.result.suspect_device import THROTTLES
from tests.nvml.devices import GIB, HW_THERMAL, SW_POWER_CAP, h100, mig_slice
from tests.nvml.library import NAME
from tests.nvml.runs import Played, Stage, played_run
from tests.nvml.scenario import NEVER, STALL, ZERO, Cells, Event, Fault, Process, Scenario, constant, levels, ramp, wave

pytestmark = pytest.mark.real
NOT_SUPPORTED, GPU_IS_LOST = 3, 15
OF_DEVICES = {
    "throttled",
    "low_clocks",
    "foreign_process",
    "sampling_gap",
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
    parts = tuple(
        h100(i, power, curves={"memory_used_bytes": used}, processes=(Process(pid, OF_WORKER),))
        for i, power in enumerate(POWERS)
    )

    def steer(stage: Stage) -> None:
        if stage.phase in MEMORY:
            used.set(MEMORY[stage.phase])
        pid.set(stage.worker_pid)

    return played_run(Scenario(parts, cells), nvml_library, folder, on_phase=steer)


@pytest.mark.parametrize("index", [0, 1])
def test_energy_is_the_waveforms_integral(well: Played, index: int) -> None:
    energy, exact = well.device(index)["energy_j"], well.exact_j(POWERS[index])
    assert energy["source"] == "counter"
    assert energy["window"] == energy["counter"] == pytest.approx(exact, rel=0.01)
    assert energy["integral"] == pytest.approx(exact, rel=0.05)
    assert energy["counter_integral_difference"] == pytest.approx(energy["integral"] / energy["counter"] - 1)
    assert abs(energy["counter_integral_difference"]) < 0.05


@pytest.mark.parametrize("index", [0, 1])
def test_energy_is_divided_by_tokens_and_set_off_from_idle(well: Played, index: int) -> None:
    device, tokens = well.device(index), well.result["counts"]["output_tokens"]
    energy, (start, end) = device["energy_j"], well.window
    job = json.loads((well.folder / "job.json").read_text())
    first, spawned = map(well.scenario.seconds, (well.rows(f"gpu{index}")["time_ns"][0], job["spawn_ns"]))
    assert spawned - first > 1.5
    idle_w = POWERS[index].integral(first, spawned) / (spawned - first)
    assert device["idle_power_w"] == pytest.approx(idle_w, rel=0.05)
    assert energy["above_idle"] == pytest.approx(energy["window"] - device["idle_power_w"] * (end - start))
    assert energy["per_token"] == pytest.approx(energy["window"] / tokens)
    assert energy["per_token_above_idle"] == pytest.approx(energy["above_idle"] / tokens)
    assert energy["tokens_per_j"] == pytest.approx(tokens / energy["window"])


def test_the_totals_are_those_of_all_devices(well: Played) -> None:
    total = well.result["telemetry"]["energy_j"]["devices"]
    assert total["window"] == pytest.approx(sum(map(well.exact_j, POWERS)), rel=0.01)
    assert total["per_token"] == pytest.approx(total["window"] / well.result["counts"]["output_tokens"])


@pytest.mark.parametrize("index", [0, 1])
def test_power_readings_are_those_of_the_part(well: Played, index: int) -> None:
    """Each is the mean of the 25 ms before one of the last updates, which come every 100 ms."""
    rows, curve = well.rows(f"gpu{index}"), POWERS[index]
    seen = 0
    for time_ns, watts in zip(rows["time_ns"], rows["power_instant_w"], strict=True):
        tick = math.floor(well.scenario.seconds(time_ns) / 0.1)
        near = [curve.integral(t * 0.1 - 0.025, t * 0.1) / 0.025 for t in (tick - 1, tick, tick + 1, tick + 2)]
        assert min(abs(watts - one) for one in near) < 0.01
        seen += 1
    assert seen > 100
    device, exact = well.device(index), well.exact_j(curve)
    start, end = well.window
    assert device["power_w"]["mean"] == pytest.approx(exact / (end - start), rel=0.05)
    assert device["power_w"]["p50"] <= device["power_w"]["p90"] <= device["power_w"]["max"] <= 550
    assert device["power_limit_w"] == 700


def test_the_update_period_of_the_power_reading_is_measured(well: Played) -> None:
    assert well.device(0)["update_period_s"] == pytest.approx(0.1, rel=0.2)


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
    assert cost["samples"] == well.device(index)["samples"] > 100
    assert 0 <= cost["late_p50_s"] <= cost["late_p99_s"]
    assert cost["cpu_s"] > 0
    assert 0 < cost["cpu_share"] < 1
    assert cost["error"] is None


def test_a_device_that_works_well_raises_no_suspicion(well: Played) -> None:
    assert not OF_DEVICES & set(well.reasons())


def test_the_report_has_a_line_of_power_utilization_and_memory(well: Played) -> None:
    lines = well.stdout.splitlines()
    assert any("GPU 0" in line for line in lines)
    assert any("GPU 1" in line for line in lines)
    assert "W" in well.stdout
    assert "25" in well.stdout
    measuring = [line for line in well.stderr.splitlines() if line.startswith("measuring ")]
    assert any(" W" in line for line in measuring), well.stderr


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
            appears.set(scenario.now() + 2.0)
            lost.set(scenario.now() + 4.0)

    return played_run(scenario, nvml_library, folder, on_phase=steer), lost.get()


def test_readings_that_fail_now_and_then_are_left_out_and_counted(ill: tuple[Played, float]) -> None:
    run, _ = ill
    device, rows = run.device(0), run.rows("gpu0")
    assert device["energy_j"]["window"] == pytest.approx(run.exact_j(POWERS[0]), rel=0.01)
    assert device["energy_j"]["integral"] == pytest.approx(run.exact_j(POWERS[0]), rel=0.05)
    assert device["faults"]["zero_power"] > 10
    assert device["faults"]["refused"] > 10
    assert min(watts for watts in rows["power_instant_w"] if watts is not None) > 200
    assert rows["power_instant_w"].count(None) >= device["faults"]["zero_power"]
    assert {size for size in rows["memory_used_bytes"] if size is not None} == {GIB}
    assert set(device["supported"].values()) == {True}
    assert not {"device_lost", "energy_mismatch", "low_clocks"} & set(run.reasons(0))


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
    assert start < lost_s < end - 2
    assert run.result["failure"] is None
    steps = pq.read_table(run.folder / "steps.parquet")["end_ns"].to_pylist()
    assert run.scenario.seconds(steps[-1]) > lost_s + 2
    assert device["missing_from_s"] == pytest.approx(lost_s - start, abs=1.0)
    assert device["missing_from_s"] >= lost_s - start - 0.001
    assert "lost" in device["missing_reason"].lower()
    assert f"{device['missing_from_s']:.1f} s" in run.reasons(1)["device_lost"]
    assert max(map(run.scenario.seconds, rows["time_ns"])) <= lost_s + 0.05
    energy = device["energy_j"]
    assert energy["window"] is energy["per_token"] is energy["counter_integral_difference"] is None
    assert "lost" in energy["note"]
    assert run.device(0)["missing_from_s"] is None
    assert run.result["telemetry"]["energy_j"]["devices"]["window"] is None  # a part would pass for the whole


# ---- five that mislead or hang ----

HIDDEN = levels((0.06, 650), (0.04, 100), repeats=True)  # the windows of 25 ms see only the second level


@pytest.fixture(scope="module")
def strained(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("strained")
    cells = Cells(folder / "cells")
    moments = {name: cells.new(NEVER) for name in ("cap", "uncap", "heat", "stall", "resume", "hang")}
    slow = {"sm_mhz": constant(1300), "temperature_c": ramp(300, 20, 320)}
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
            for name, after_s in {"cap": 1, "heat": 4, "uncap": 7, "resume": 6.5, "stall": 2, "hang": 5}.items():
                moments[name].set(now + after_s)

    return played_run(scenario, nvml_library, folder, on_phase=steer)


def test_without_a_counter_the_integral_is_the_energy(strained: Played) -> None:
    energy = strained.device(0)["energy_j"]
    assert (energy["source"], energy["counter"], energy["counter_integral_difference"]) == ("integral", None, None)
    assert energy["window"] == pytest.approx(strained.exact_j(POWERS[0]), rel=0.05)
    assert "no working energy counter" in energy["note"]
    assert strained.device(0)["supported"]["energy"] is False
    assert strained.reasons(0) == {}


def test_bursts_that_the_power_reading_misses_are_told_by_the_counter(strained: Played) -> None:
    energy = strained.device(1)["energy_j"]
    assert energy["window"] == pytest.approx(strained.exact_j(HIDDEN), rel=0.01)
    assert energy["counter_integral_difference"] == pytest.approx(100 / 430 - 1, abs=0.02)
    assert "%" in strained.reasons(1)["energy_mismatch"]
    assert set(strained.reasons(1)) == {"energy_mismatch"}


def test_throttling_low_clocks_and_rising_heat_are_suspect(strained: Played) -> None:
    held = {one["reason"]: one["seconds"] for one in strained.device(2)["event_reasons"]}
    assert held == {"sw_power_cap": pytest.approx(6, abs=1), "hw_thermal_slowdown": pytest.approx(3, abs=1)}
    assert set(held) <= set(THROTTLES)
    reasons = strained.reasons(2)
    assert set(reasons) == {"throttled", "low_clocks", "temperature_rising"}
    assert f"{number(1300)} MHz" in reasons["low_clocks"]
    said = [r["detail"] for r in strained.result["reasons"] if r["code"] == "throttled"]
    assert len(said) == 2
    assert any("sw_power_cap" in detail for detail in said)
    assert any("hw_thermal_slowdown" in detail for detail in said)


def test_a_driver_that_hangs_leaves_a_gap_that_is_told(strained: Played) -> None:
    assert strained.result["telemetry"]["sampler"]["gpu3"]["longest_gap_s"] > 4
    assert "sampling_gap" in strained.reasons(3)
    energy = strained.device(3)["energy_j"]
    assert energy["window"] == pytest.approx(strained.exact_j(POWERS[1]), rel=0.01)  # the counter went on
    assert energy["integral"] is None
    for other in (0, 1, 2):
        assert "sampling_gap" not in strained.reasons(other)


def test_a_driver_that_never_returns_does_not_hold_up_the_end(strained: Played) -> None:
    device = strained.device(4)
    assert device["missing_from_s"] == pytest.approx(5, abs=1.0)
    assert "has not returned" in device["missing_reason"]
    assert device["energy_j"]["window"] is None
    assert "device_lost" in strained.reasons(4)
    assert strained.result["telemetry"]["sampler"]["gpu4"]["error"] == device["missing_reason"]


# ---- a slice, and no driver ----


def test_a_slice_has_its_own_memory_and_the_whole_devices_power(nvml_library: Path, tmp_path: Path) -> None:
    part = mig_slice(1, constant(6 * GIB))
    scenario = Scenario((h100(0), h100(1, POWERS[0], numbers={"mig": 1}, slices=(mig_slice(0), part))))
    run = played_run(scenario, nvml_library, tmp_path, seconds=4, CUDA_VISIBLE_DEVICES=part.uuid)
    [device] = run.result["telemetry"]["devices"]
    whole = {"parent_uuid": scenario.devices[1].uuid, "gpu_instance": 2, "compute_instance": 0}
    assert (device["uuid"], device["mig"]) == (part.uuid, whole)
    assert (device["memory_bytes"]["peak"], device["memory_bytes"]["total"]) == (6 * GIB, 40 * GIB)
    assert device["energy_j"]["window"] == pytest.approx(run.exact_j(POWERS[0]), rel=0.01)
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
    assert not (OF_DEVICES - {"sampling_gap"}) & set(run.reasons())
    said = run.stdout + run.stderr
    assert said.count("no NVIDIA driver on this machine") == 1
    assert not [word for word in ("Warning", "Traceback", "NVML", "pynvml") if word in said]
