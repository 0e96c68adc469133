"""The ceilings as a run asks for them: from the cache, or measured; what counts as one; what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from innerloop.harness.ceilings import cache, measure
from innerloop.harness.ceilings import obtain as limits
from innerloop.harness.ceilings.__main__ import main
from innerloop.harness.ceilings.commands import formats
from innerloop.harness.ceilings.model import Ceilings, Key, wanted
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, InnerloopError, Refused
from innerloop.harness.environments import Environment
from innerloop.harness.machine import this_machine
from innerloop.harness.process import launcher
from innerloop.harness.report.ceilings import facts
from tests.harness.ceilings.rates import memory, rate
from tests.nvml.devices import h100
from tests.nvml.scenario import Scenario

NOW = datetime.now(timezone.utc).isoformat(timespec="seconds")
KEY = Key("cpu", "AMD EPYC", "2.13.0+cpu", cores=2, physical_cores=1, governor="performance")


def made(**changes):
    fields = {"key": KEY, "memory": memory(), "matrix": {"float32": rate(4e11)}, "measured": NOW, "threads": 2}
    return Ceilings(**{**fields, **changes})


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(limits, "_settled", set())
    governed(monkeypatch, "performance")
    return tmp_path / "home"


def governed(monkeypatch, governor):
    monkeypatch.setattr(limits, "host_state", lambda: SimpleNamespace(governor=governor, turbo=None))


@pytest.fixture
def environment(tmp_path):
    """An environment that claims to have torch 2.13."""
    folder = tmp_path / "toy-cpu-abc"
    (folder / "lib/python3.12/site-packages/torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    return Environment("toy", "cpu", folder / "bin/python", folder, "lock", NOW, {}, "1.0", "3.12.1")


@pytest.fixture
def machine():
    return replace(this_machine(), cpu="AMD EPYC", logical_cores=2, physical_cores=1, cpu_quota=None, gpus=())


@pytest.fixture
def counted(monkeypatch):
    """Takes the place of the measurement: what it was asked for, and gives `answers` in turn."""
    asked = []

    def fake(environment, machine, key, dtypes, known):
        asked.append((sorted(dtypes), known is None))
        matrix = {**(known.matrix if known else {}), **{dtype: rate(1e12) for dtype in dtypes}}
        return made(key=key, matrix=matrix, memory=known.memory if known else memory())

    monkeypatch.setattr(measure, "measure", fake)
    return asked


def test_the_larger_of_copy_and_read_is_the_ceiling():
    assert made(memory=memory(read=40e9, copy=45e9)).bytes_per_s == 45e9
    assert made().bytes_per_s == 40e9


def test_a_format_without_units_of_its_own_is_widened():
    found = made(matrix={"float32": rate(4e11), "float16": rate(2e9), "bfloat16": rate(9e11)})
    assert found.ops_per_s("float16") == 4e11
    assert found.ops_per_s("bfloat16") == 9e11
    assert found.ops_per_s("float32") == 4e11
    assert found.ops_per_s("float8_e4m3fn") == 9e11


def test_a_rate_of_nothing_measured_is_unknown():
    assert made(matrix={"bfloat16": rate(9e11)}).ops_per_s("float32") is None


@pytest.mark.parametrize(
    ("device", "dtype", "quantization", "formats"),
    [
        ("cpu", "float32", None, ["float32"]),
        ("cpu", "bfloat16", "fp8", ["bfloat16", "float32"]),
        ("cuda", "bfloat16", None, ["bfloat16"]),
        ("cuda", "bfloat16", "fp8", ["bfloat16", "float8_e4m3fn"]),
        ("cuda", "float16", "awq", ["float16"]),
    ],
)
def test_a_run_asks_for_the_formats_that_it_computes_in(device, dtype, quantization, formats):
    assert wanted(device, dtype, quantization) == formats


def test_what_was_measured_is_kept_and_not_measured_again(home, environment, machine, counted):
    said: list[str] = []
    first = limits.ceilings(environment, machine, ["float32"], say=said.append)
    again = limits.ceilings(environment, machine, ["float32"], say=said.append)
    assert counted == [(["float32"], True)]
    assert first == again
    assert said == ["measuring the memory bandwidth and matmul throughput of AMD EPYC"]


def test_only_what_is_missing_is_measured(home, environment, machine, counted):
    limits.ceilings(environment, machine, ["float32"])
    both = limits.ceilings(environment, machine, ["bfloat16", "float32"])
    assert counted[1] == (["bfloat16"], False)
    assert set(both.matrix) == {"float32", "bfloat16"}


def test_remeasuring_forgets_what_was_known(home, environment, machine, counted):
    limits.ceilings(environment, machine, ["float32"])
    limits.ceilings(environment, machine, ["bfloat16"], remeasure=True)
    assert counted[1] == (["bfloat16"], True)


def test_whatever_decides_a_measurement_makes_another_one(home, environment, machine, counted, monkeypatch):
    limits.ceilings(environment, machine, ["float32"])
    changes: tuple[dict[str, Any], ...] = (
        {"logical_cores": 4},
        {"physical_cores": 2},
        {"cpu_quota": 1.5},
        {"cpu": "AMD EPYC 2"},
    )
    for number, change in enumerate(changes):
        limits.ceilings(environment, replace(machine, **change), ["float32"])
        assert len(counted) == number + 2
    governed(monkeypatch, "powersave")
    limits.ceilings(environment, machine, ["float32"])
    assert len(counted) == len(changes) + 2
    monkeypatch.setattr(limits, "host_state", lambda: SimpleNamespace(governor="performance", turbo=False))
    limits.ceilings(environment, machine, ["float32"])
    monkeypatch.setattr(limits, "clock_limits", lambda: "2x1200")
    limits.ceilings(environment, machine, ["float32"])
    assert len(counted) == len(changes) + 4


def test_what_the_user_has_set_for_libraries_does_not_reach_a_measurement(monkeypatch):
    user = {
        "OMP_THREAD_LIMIT": "1",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "KMP_AFFINITY": "x",
        "OPENBLAS_NUM_THREADS": "1",  # of torch's matrices on Arm
        "THP_MEM_ALLOC_ENABLE": "1",
    }
    places = {
        "LD_LIBRARY_PATH": "/lib", "CUDA_VISIBLE_DEVICES": "1", "CUDA_MPS_PIPE_DIRECTORY": "/mps",
        "PYTHONUSERBASE": "/site", "PYTHONNOUSERSITE": "1",
    }  # fmt: skip
    for name, value in {**user, **places}.items():
        monkeypatch.setenv(name, value)
    found = launcher.environment({**measure.neutral({"KMP_AFFINITY": "own"}), "OMP_NUM_THREADS": "2"})
    assert not (user.keys() - {"KMP_AFFINITY"}) & found.keys()
    assert (found["KMP_AFFINITY"], found["OMP_NUM_THREADS"]) == ("own", "2")
    assert places.items() <= found.items()


def test_what_a_busy_machine_gave_is_measured_again_after_an_hour_and_the_best_is_kept(
    home, environment, machine, counted
):
    hour = timedelta(seconds=limits.DISTURBED_FOR_S + 1)
    before = (datetime.now(timezone.utc) - hour).isoformat(timespec="seconds")
    old = made(measured=before, other_cores=1.0, matrix={"float32": rate(3e12)}, memory=memory(read=10e9, copy=9e9))
    cache.write(old)
    found = limits.ceilings(environment, machine, ["float32"])
    assert counted == [(["float32"], True)]
    assert found.ops_per_s("float32") == 3e12
    assert found.bytes_per_s == 40e9
    cache.write(old)
    limits.ceilings(environment, machine, ["float32"])
    assert len(counted) == 1  # not in the middle of an experiment
    limits._settled.clear()
    cache.write(replace(old, measured=datetime.now(timezone.utc).isoformat(timespec="seconds")))
    limits.ceilings(environment, machine, ["float32"])
    assert len(counted) == 1  # just now: the machine is still as busy as it was


def test_what_other_processes_do_on_the_cpu_does_not_disturb_a_gpu():
    gpu = Key("cuda", "NVIDIA H200", "2.11.0", driver="580", memory_bytes=1)
    assert made(other_cores=1.0).disturbed
    assert not made(key=gpu, other_cores=1.0).disturbed


@pytest.mark.parametrize(
    "change",
    [
        {"matrix": [1]},
        {"matrix": None},
        {"measured": "2026-01-01T00:00:00"},  # no time zone
        {"measured": 5},
        {"other_cores": "x"},
        {"clocks": "x"},
        {"key": [1]},
        {"memory": {**memory(), "copy_bytes_per_s": "fast"}},
    ],
    ids=str,
)
def test_a_file_of_another_shape_counts_as_none(home, change):
    path = cache.write(made())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert cache.load(path) is None
    assert cache.every() == []


def test_a_file_that_makes_no_sense_is_measured_again(home, environment, machine, counted):
    limits.ceilings(environment, machine, ["float32"])
    path = cache.path_of(KEY)
    for text in (
        "",
        "[]",
        '{"version": 1}',
        path.read_text().replace('"version": 1', '"version": 99'),
        path.read_text().replace("1000000000000.0", '"fast"'),
        path.read_text().replace("1000000000000.0", "-5"),
    ):
        path.write_text(text)
        assert cache.read(KEY) is None
        limits.ceilings(environment, machine, ["float32"])
    assert len(counted) == 7


def test_a_folder_that_cannot_be_written_costs_only_another_measurement(home, environment, machine, counted):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file, where the cache should be")
    for _ in range(2):
        assert limits.ceilings(environment, machine, ["float32"]).bytes_per_s == 40e9
    assert len(counted) == 2


def test_an_engine_without_torch_borrows_another_environments(home, environment, machine, monkeypatch, tmp_path):
    bare = replace(environment, engine="mlc_llm", folder=tmp_path / "bare")
    with pytest.raises(Refused, match="has no PyTorch"):
        limits.with_torch(bare)
    monkeypatch.setattr("innerloop.harness.environments.plan", lambda engine, device: engine.name)
    monkeypatch.setattr(
        "innerloop.harness.environments.existing", lambda name: environment if name == "torch" else None
    )
    assert limits.with_torch(bare) == (environment, "2.13.0+cpu")


def test_a_run_goes_on_without_what_could_not_be_measured(home, environment, machine, monkeypatch):
    spec = cast("Any", SimpleNamespace(device="cpu", settings=SimpleNamespace(dtype="float32", quantization=None)))

    for error in (InnerloopError("it broke"), OSError(28, "No space left on device")):  # for temporary files

        def fails(*_, error=error):
            raise error

        monkeypatch.setattr(measure, "measure", fails)
        assert limits.for_run(spec, environment, machine, say=lambda _: None) == (None, str(error))


def test_a_gpu_that_is_not_there_has_no_key(machine):
    with pytest.raises(Refused, match="no usable NVIDIA GPU"):
        limits.key_of("cuda", machine, "2.13")


def script(tmp_path: Path, body: str) -> Environment:
    """An interpreter that is a shell script: it is started as the worker is, with a channel to tell on."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)
    return Environment("toy", "cpu", python, None, None, None, {}, None, "3.12.1")


def test_a_process_that_fails_is_an_error_with_its_words(tmp_path, machine):
    environment = script(tmp_path, "echo no torch in here >&2; exit 7")
    with pytest.raises(InnerloopError, match="exited with code 7") as caught:
        measure.measure(environment, machine, KEY, ["float32"], None)
    assert "no torch in here" in caught.value.details


def test_an_error_that_is_told_is_passed_on(tmp_path, machine):
    told = json.dumps({"event": "error", "message": "CUDA is gone", "traceback": ["line"]})
    environment = script(tmp_path, f"echo '{told}' >/proc/self/fd/$3; sleep 60")
    with pytest.raises(InnerloopError, match="CUDA is gone"):
        measure.measure(environment, machine, KEY, ["float32"], None)


def test_a_guard_that_is_killed_is_told_from_a_measurement_that_is_late(tmp_path, machine):
    with pytest.raises(InnerloopError, match="the process that measured the peaks was killed"):
        measure.measure(script(tmp_path, "kill -9 $PPID; sleep 60"), machine, KEY, ["float32"], None)


def test_a_process_that_hangs_is_ended(tmp_path, machine, monkeypatch):
    monkeypatch.setattr(measure, "LIMIT_S", 0.5)
    with pytest.raises(InnerloopError, match="took longer than"):
        measure.measure(script(tmp_path, "sleep 60"), machine, KEY, ["float32"], None)


def test_a_result_is_taken_with_what_was_known_before(tmp_path, machine):
    result = {"memory": None, "matrix": {"bfloat16": rate(9e11)}, "torch": "2.13", "threads": 2, "tf32": None}
    lines = [{"event": "measuring"}, {"event": "result", "cpu_s": 0.1, **result}]
    body = "; ".join(f"echo '{json.dumps(line)}' >/proc/self/fd/$3" for line in lines)
    found = measure.measure(script(tmp_path, body), machine, KEY, ["bfloat16"], made())
    assert set(found.matrix) == {"float32", "bfloat16"}
    assert found.memory == memory()
    assert found.other_cores is not None
    busy = measure.measure(script(tmp_path, body), machine, KEY, ["bfloat16"], made(other_cores=64.0))
    assert busy.other_cores == 64.0  # the memory's rate is of then
    assert busy.disturbed
    assert limits.stale(replace(busy, measured="2026-01-01T00:00:00+00:00"))  # so that it is measured again


def test_list_shows_what_is_kept(home, capsys):
    assert main(["list"]) == EXIT_OK
    assert "nothing measured yet" in capsys.readouterr().out
    cache.write(made(matrix={"float32": rate(4e11), "float16": rate(2e9), "float8_e4m3fn": rate(None)}))
    assert main(["--list"]) == EXIT_OK  # an older spelling
    out = capsys.readouterr().out
    assert "AMD EPYC" in out
    assert "40.0  GB/s" in out
    assert "400" in out
    assert "the roofline uses 400, the rate of a wider dtype" in " ".join(out.split())
    assert main(["list", "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "ceilings"
    [document] = found["ceilings"]
    assert document["bytes_per_s"] == 40e9
    assert document["ops_per_s"]["float32"] == 4e11


def test_wrong_names_are_refused_with_the_nearest(home, capsys):
    with pytest.raises(Refused, match="bfloat16"):
        formats("bfloat61", "cpu")
    assert formats(None, "cpu") == ["float32", "bfloat16", "float16"]
    assert formats("float32, bfloat16", "cpu") == ["float32", "bfloat16"]
    assert main(["--engine", "vlm", "--device", "cpu"]) == EXIT_REFUSED
    assert "vllm" in capsys.readouterr().err


@pytest.mark.real
def test_the_ceilings_of_this_cpu_are_measured_and_kept(measured_here):
    """By a real torch; what is there of environments is used, or one is made."""
    from tests import preloaded
    from tests.real import variables

    asked = ("--device", "cpu", "--dtype", "float32", "--json")

    def measured():
        done = preloaded.run("harness.ceilings", *asked, cwd=Path.cwd(), env=variables(**measured_here), timeout=1800)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    there = any(Path(measured_here["INNERLOOP_HOME"]).glob("ceilings/*.json"))  # of a run that was before this
    found, said = measured()
    assert there or "measuring the memory bandwidth" in said
    for kind in ("copy", "read"):
        assert 0 < found["memory"][f"{kind}_median_bytes_per_s"] <= found["memory"][f"{kind}_bytes_per_s"] < 1e13
    assert found["bytes_per_s"] == max(found["memory"][f"{kind}_bytes_per_s"] for kind in ("copy", "read"))
    assert 0 < found["ops_per_s"]["float32"] < 1e15
    enough, room = 8 * found["memory"]["cache_bytes"], psutil.virtual_memory().available
    assert found["memory"]["array_bytes"] >= min(enough, room // 16)  # other tests take memory meanwhile
    again, said = measured()
    assert again == found
    assert said == ""


def test_a_gpus_key_and_its_clock_while_it_is_measured(play):
    play(Scenario((h100(),)))
    machine = this_machine()
    key = limits.key_of("cuda", machine, "2.13.0+cu130")
    assert (key.name, key.driver) == ("NVIDIA H100 80GB HBM3", "580.65.06")
    assert key.memory_bytes is not None
    assert key.power_limit_w == 700.0
    assert cache.path_of(key) != cache.path_of(replace(key, power_limit_w=500.0))
    meter = measure.Meter(machine)
    meter.look()
    assert meter.most == {"sm_clock_mhz": None, "power_instant_w": None}  # not measuring yet
    meter.begin()
    meter.look()
    meter.end()
    meter.close()
    assert meter.other_gpu_share() == pytest.approx(0.9)  # others' as long as it is not measured
    busy = made(key=key, other_gpu_share=meter.other_gpu_share(), clocks=meter.most)
    assert "others used the GPU 90.0 % of the time before" in facts(busy)
    assert busy.disturbed
    assert limits.stale(replace(busy, measured="2026-01-01T00:00:00+00:00"))  # so that it is measured again
    assert not made(key=key, other_gpu_share=0.02, other_cores=100.0).disturbed
    assert meter.most is not None
    assert all(value and value > 0 for value in meter.most.values())
    words = facts(made(key=key, clocks=meter.most, threads=None))
    assert "SM clock up to" in words
    assert "driver 580.65.06" in words


def test_a_gpu_whose_driver_does_not_answer_is_measured_without_its_clock(play, machine):
    play(Scenario((h100(),)))
    there = this_machine()
    play(Scenario((h100(),), init_error=18))
    meter = measure.Meter(there)
    meter.begin()
    meter.look()
    assert meter.most is None
    meter.close()
