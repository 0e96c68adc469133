"""The session on a GPU machine: what happens when a step fails, hangs or has no time left, and what is kept."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.gpu import h200, pack, power
from benchmarks.gpu.steps import STEPS, Place, Step
from innerloop.harness.session.arguments import parser
from innerloop.harness.telemetry.device import SLOT
from tests import real
from tests.waiting import gone, until

FOREVER = "import time; print('begun', flush=True); time.sleep(600)"
WITH_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({path!r}, "w").write(str(child.pid))
{then}
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "runs").mkdir()
    return Place(sys.executable, sys.executable, tmp_path / "runs", small=True)


def carried(place: Place, seconds: float, *programs: str, usual: float = 100.0) -> h200.Done:
    step = Step("some", usual, (), lambda _: [["-c", program] for program in programs])
    return h200.carry_out(step, place, dict(os.environ), (), time.monotonic() + seconds)


def test_a_command_that_fails_does_not_stop_the_next(place: Place) -> None:
    done = carried(place, 1000.0, "raise SystemExit(3)", "print('after')", usual=1000.0)
    assert (done.code, done.note) == (3, "command 0 exited 3")
    assert "after" in (place.folder / "some" / "output-1.txt").read_text()


def over_once(monkeypatch: pytest.MonkeyPatch, condition: Callable[[], object]) -> list[float]:
    """A command's time is over as soon as `condition` holds, however long that takes; the limit that it was given."""
    limits: list[float] = []

    class Popen(subprocess.Popen):
        def wait(self, timeout: float | None = None) -> int:
            if timeout is None or limits:
                return super().wait(timeout)
            limits.append(timeout)
            until(condition)
            raise subprocess.TimeoutExpired(self.args, timeout)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return limits


def test_a_command_that_does_not_end_is_ended_when_the_time_is_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = place.folder / "some" / "output-0.txt"
    limits = over_once(monkeypatch, lambda: "begun\n" in output.read_text())
    monkeypatch.setattr(h200, "GRACE_S", 90.0)
    done = carried(place, 100.0, FOREVER)
    assert done.code == 124
    assert 1.0 <= limits[0] <= 10.0  # what is left less the grace
    assert "begun\n" in output.read_text()


def test_a_step_that_hangs_leaves_time_for_the_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h200, "GRACE_S", 0.5)
    done = carried(place, 500.0, FOREVER, "print('after')", usual=0.6)  # at most 1.5 s
    assert done.code == 124
    assert done.note == "command 0 exited 124; command 1 was not begun: the time was over"  # of 500 s
    assert not (place.folder / "some" / "output-1.txt").exists()


@pytest.mark.parametrize("then", ["raise SystemExit(1)", "import time; time.sleep(600)"], ids=["failed", "hung"])
def test_what_a_command_leaves_behind_is_ended(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    path = tmp_path / "pid"
    if "Exit" not in then:
        over_once(monkeypatch, lambda: path.exists() and path.read_text())
    program = WITH_CHILD.format(path=str(path), then=then)
    code = h200.call([sys.executable, "-c", program], tmp_path / "output.txt", dict(os.environ), 600.0)
    assert code == (1 if "Exit" in then else 124)
    pid = int(path.read_text())
    until(lambda: gone(pid))


def test_a_session_that_is_killed_takes_its_command_along(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    inner = f"import os, time; open({str(path)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    outer = (
        "import os, sys; from pathlib import Path; from benchmarks.gpu import h200; "
        f"h200.call([sys.executable, '-c', {inner!r}], Path({str(tmp_path / 'output.txt')!r}), dict(os.environ), 600)"
    )
    session = subprocess.Popen([sys.executable, "-c", outer], env=real.variables())
    try:
        until(lambda: path.exists() and path.read_text())
        pid = int(path.read_text())
    finally:
        session.kill()
        session.wait()
    until(lambda: gone(pid))


def test_an_engine_that_cannot_be_registered_is_left_out_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def run(command: list[str], **_: object) -> None:
        calls.append(command[command.index("register") + 1])
        if "session-vllm" in command:
            raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(subprocess, "run", run)
    for name in ("vllm", "torch"):
        (tmp_path / f"site-{name}").mkdir()
        (tmp_path / f"site-{name}" / "manifest.json").write_text('{"environment": {}}')
    broken = tmp_path / "parts"
    broken.mkdir()
    (broken / "manifest.json").write_text('{"name": "lmdeploy", "parts": [{"file": "part-000", "sha256": ""}]}')
    given = argparse.Namespace(bundles={"lmdeploy": str(broken)}, rehearse=False, engines=("vllm", "lmdeploy", "torch"))
    variables, python = h200.prepare(given, tmp_path)
    assert given.engines == ("torch",)
    assert calls == ["session-vllm", "session-torch"]
    assert python == sys.executable
    assert variables["INNERLOOP_HOME"] == str(tmp_path / "home")
    told = capfd.readouterr().out
    assert "the bundle of lmdeploy cannot be unpacked: FileNotFoundError" in told
    assert "vllm cannot be registered" in told


def test_the_gpu_tests_runs_find_packages_that_pythonpath_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a/site")
    assert real.variables()["PYTHONPATH"] == f"{real.ROOT}:/a/site"
    monkeypatch.delenv("PYTHONPATH")
    assert real.variables()["PYTHONPATH"] == str(real.ROOT)


def test_what_a_device_does_not_answer_is_missing_in_its_account_and_no_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        """Answers power now and then, and never energy."""

        faults: dict[str, int] = {}
        readings = 0

        def fast(self, row: list[object]) -> None:
            self.readings += 1
            row[SLOT["power_instant_w"]] = 100.0 if self.readings % 2 else float("nan")

        def medium(self, row: list[object]) -> None:
            row[SLOT["temperature_c"]] = 40.0

        def slow(self, row: list[object]) -> None:
            pass

    ticks = itertools.count()
    monkeypatch.setattr(power, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 1000))
    found = power.look(Silent(), 0.01)  # type: ignore[arg-type]
    json.dumps(found, allow_nan=False)
    assert found["once"] == {"temperature_c": 40.0}
    assert found["energy_j"] == {"counter": None, "integral": None}
    assert found["power_w"]["p50"] == 100.0
    assert found["ms_between_changes_of_power"] is None


def test_a_step_without_enough_time_is_not_begun_and_says_how_to_go_on(place: Place) -> None:
    done = carried(place, 5.0, "print('begun')", usual=1.0)
    assert done.code is None
    assert "--steps some" in done.note
    assert not (place.folder / "some").exists()


def test_a_step_without_its_engine_is_left_out(place: Place) -> None:
    step = Step("some", 1.0, ("lmdeploy",), lambda _: [["-c", "print()"]])
    real = Place(place.python, place.torch, place.folder, small=False)
    done = h200.carry_out(step, real, dict(os.environ), ("vllm",), time.monotonic() + 100)
    assert (done.code, done.note) == (None, "there is no lmdeploy")


def test_of_a_step_of_two_engines_what_the_one_needs_is_run_without_the_other(place: Place) -> None:
    programs = [["-c", f"print('{name}')", f"session-{name}"] for name in ("lmdeploy", "vllm")]
    step = Step("some", 1.0, ("vllm", "lmdeploy"), lambda _: programs)
    real_place = Place(place.python, place.torch, place.folder, small=False)
    done = h200.carry_out(step, real_place, dict(os.environ), ("vllm",), time.monotonic() + 100)
    assert (done.code, done.note) == (2, "command 0 needs lmdeploy")
    assert not (place.folder / "some" / "output-0.txt").exists()
    assert "vllm" in (place.folder / "some" / "output-1.txt").read_text()


def test_results_are_kept_without_raw_traces(place: Place, tmp_path: Path) -> None:
    run = place.folder / "a-run"
    (run / "trace").mkdir(parents=True)
    (run / "trace" / "steps.bin").write_bytes(bytes(100))
    for name in ("steps.parquet", "tokens.parquet", "report.ncu-rep", "kernels.parquet", "trace.perfetto-trace"):
        (run / name).write_bytes(bytes(100))
    result = {
        "status": "ok",
        "reasons": [],
        "throughput": {"output_tokens_per_s": 1234.0},
        "latency_s": {"ttft": {"p50": 0.5}, "tpot": {"p50": 0.01}},
    }
    (run / "result.json").write_text(json.dumps(result))
    h200.save(tmp_path, tmp_path, [h200.Done("some", 0, 1.0, "")])
    with tarfile.open(tmp_path / "results.tar.xz") as kept:
        assert kept.getnames() == ["a-run/report.ncu-rep", "a-run/result.json", "a-run/steps.parquet"]
    table = (tmp_path / "table.txt").read_text()
    assert "1,234 tok/s  TTFT 500.0 ms  TPOT 10.0 ms" in table


def test_a_later_call_keeps_what_an_earlier_one_did(tmp_path: Path) -> None:
    assert h200.earlier(tmp_path) == {}
    (tmp_path / "runs").mkdir()
    done = h200.Done("some", 124, 7.0, "command 0 exited 124")
    h200.save(tmp_path, tmp_path, [done])
    assert h200.earlier(tmp_path) == {"some": done}


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_steps_commands_are_ones_that_the_harness_takes(step: Step, small: bool, place: Place) -> None:
    there = Place(place.python, place.torch, place.folder, small)
    for command in step.commands(there):
        if command[:2] == ["-m", "harness.run"]:
            parser().parse_args(command[2:])


def test_a_damaged_part_is_not_unpacked(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "toy-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy/__init__.py", "A = 1\n")
        wheel.writestr("toy/tests/test_toy.py", "")
        wheel.writestr("toy-1.0.data/scripts/toy", "#!python\n")
        wheel.writestr("toy-1.0.data/headers/toy.h", "")
    pack.cut(wheels.glob("*.whl"), tmp_path / "parts", "3.12")
    h200.unpack(tmp_path / "parts", tmp_path / "site")
    files = sorted(
        str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_file()
    )
    assert files == ["bin/toy", "manifest.json", "toy/__init__.py"]
    assert os.access(tmp_path / "site" / "bin" / "toy", os.X_OK)
    part = tmp_path / "parts" / "part-000"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="is damaged"):
        h200.unpack(tmp_path / "parts", tmp_path / "other")
