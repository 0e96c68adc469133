"""The session on a GPU machine: what happens when a step fails, hangs or has no time left, and what is kept."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.gpu import h200, pack
from benchmarks.gpu.steps import STEPS, Place, Step
from harness.run import parser

FOREVER = "import time; print('begun', flush=True); time.sleep(600)"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "runs").mkdir()
    return Place(sys.executable, sys.executable, tmp_path / "runs", small=True)


def carried(place: Place, seconds: float, *programs: str) -> h200.Done:
    step = Step("some", 1.0, (), lambda _: [["-c", program] for program in programs])
    return h200.carry_out(step, place, dict(os.environ), (), time.monotonic() + seconds)


def test_a_command_that_fails_does_not_stop_the_next(place: Place) -> None:
    done = carried(place, 100.0, "raise SystemExit(3)", "print('after')")
    assert (done.code, done.note) == (3, "command 0 exited 3")
    assert "after" in (place.folder / "some" / "output-1.txt").read_text()


def test_a_command_that_does_not_end_is_ended_when_the_time_is_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h200, "GRACE_S", 9.0)
    done = carried(place, 10.5, FOREVER)
    assert done.code == 124
    assert "begun" in (place.folder / "some" / "output-0.txt").read_text()


def test_a_step_without_enough_time_is_not_begun_and_says_how_to_go_on(place: Place) -> None:
    done = carried(place, 5.0, "print('begun')")
    assert done.code is None
    assert "--steps some" in done.note
    assert not (place.folder / "some").exists()


def test_a_step_without_its_engine_is_left_out(place: Place) -> None:
    step = Step("some", 1.0, ("lmdeploy",), lambda _: [["-c", "print()"]])
    real = Place(place.python, place.torch, place.folder, small=False)
    done = h200.carry_out(step, real, dict(os.environ), ("vllm",), time.monotonic() + 100)
    assert (done.code, done.note) == (None, "there is no lmdeploy")


def test_results_are_kept_without_raw_traces(place: Place, tmp_path: Path) -> None:
    run = place.folder / "a-run"
    (run / "trace").mkdir(parents=True)
    (run / "trace" / "steps.bin").write_bytes(bytes(100))
    result = {
        "status": "ok",
        "reasons": [],
        "throughput": {"decode_tokens_per_s": 1234.0},
        "latency_s": {"ttft": {"p50": 0.5}, "tpot": {"p50": 0.01}},
    }
    (run / "result.json").write_text(json.dumps(result))
    h200.save(tmp_path, tmp_path, [h200.Done("some", 0, 1.0, "")])
    with tarfile.open(tmp_path / "results.tar.xz") as kept:
        assert kept.getnames() == ["a-run/result.json"]
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
    import zipfile

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
    with pytest.raises(SystemExit, match="is damaged"):
        h200.unpack(tmp_path / "parts", tmp_path / "other")
