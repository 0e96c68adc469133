"""A whole pass on a scripted engine, with a profiler that writes down what it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from innerloop.engines import profiling
from innerloop.engines.contract import Nothing, StepReport
from innerloop.engines.profiling.capture import Capture, Ranges
from innerloop.engines.profiling.windows import Window
from innerloop.engines.support import marks
from innerloop.engines.worker import trace
from innerloop.engines.worker.loop import drive
from tests.engines.support.driving import work
from tests.engines.worker.scripted import ScriptedEngine


class Notebook(Capture):
    def __init__(self) -> None:
        self.said: list[str] = []

    def ranges(self) -> Ranges | None:
        return self.said.append, lambda: self.said.append(".")

    def prepare(self) -> None:
        self.said.append("prepare")

    def open(self) -> None:
        self.said.append("open")

    def close(self) -> None:
        self.said.append("close")

    def mark(self, text: str) -> None:
        self.said.append(text)

    def write(self, folder: Path) -> None:
        self.said.append("write")


class Failing(ScriptedEngine):
    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if self.steps == 2:
            raise RuntimeError("the engine broke")
        return super().step(until_ns)


@pytest.fixture
def notebook(monkeypatch):
    found = Notebook()
    monkeypatch.setattr(profiling, "capture_of", lambda job, device: found)
    yield found
    marks.turn_off()


def run_pass(engine, folder: Path, *windows: Window, lengths=((4, 40),)) -> list[dict]:
    """Runs a pass and returns what it told."""
    told: list[dict] = []
    fields = [{name: getattr(window, name) for name in Window.__slots__} for window in windows]
    job = {"kind": "kernels", "folder": str(folder), "windows": fields, "batch": [None, None]}
    one = profiling.Pass(job, "cpu", lambda event, **rest: told.append({"event": event, **rest}))
    load = work(lengths)
    recorder = load.recorder(folder / "trace")
    try:
        one.drive(engine, lambda: drive(engine, load, recorder))
    finally:
        recorder.close()
    one.write()
    return told


def test_the_profiler_is_open_around_the_chosen_steps_only(tmp_path, notebook):
    told = run_pass(ScriptedEngine(), tmp_path, Window(opens=2, counts="any", steps=2))
    assert notebook.said == [
        "prepare", "open", "step 2", ".", "step 2: running 1", "step 3", ".", "step 3: running 1", "close", "write",
    ]  # fmt: skip
    assert [(one["open"], one["step"]) for one in told] == [(True, 2), (False, 4)]


def test_the_pass_ends_after_its_last_window_and_that_step_is_recorded(tmp_path, notebook):
    engine = ScriptedEngine()
    run_pass(engine, tmp_path, Window(opens=2, counts="any", steps=3))
    assert engine.steps == 5  # of 40
    assert len(trace.records(tmp_path / "trace", "steps")) == 5


def test_what_was_captured_is_written_with_its_window_and_times(tmp_path, notebook):
    run_pass(ScriptedEngine(), tmp_path, Window(opens=0, counts="any", steps=1), Window(opens=4, counts="any", steps=2))
    found = json.loads((tmp_path / "captured.json").read_text())
    steps = trace.records(tmp_path / "trace", "steps")
    assert [(row[0], row[3]) for row in found["rows"]] == [(0, 0), (4, 1), (5, 1)]
    for number, start_ns, end_ns, _ in found["rows"]:
        assert start_ns <= steps["start_ns"][number] < steps["end_ns"][number] <= end_ns


def test_a_workload_that_ends_first_closes_the_profiler(tmp_path, notebook):
    run_pass(ScriptedEngine(), tmp_path, Window(opens=1, counts="any", steps=99), lengths=((4, 3),))
    assert notebook.said[-2:] == ["close", "write"]
    assert notebook.said.count("open") == 1


def test_steps_that_are_waited_for_in_vain_are_told_and_the_pass_ends(tmp_path, notebook):
    waiting = Window(opens="full", counts="any", steps=3, wait_s=0.0)
    engine = ScriptedEngine()
    told = run_pass(engine, tmp_path, waiting)
    assert told == [
        {"event": "note", "text": "no run of steps with a full batch occurred within 0 s, so none was captured"}
    ]
    assert engine.steps < 40
    assert json.loads((tmp_path / "captured.json").read_text())["rows"] == []


def test_an_engine_that_fails_still_has_its_profiler_closed(tmp_path, notebook):
    with pytest.raises(RuntimeError, match="the engine broke"):
        run_pass(Failing(), tmp_path, Window(opens=0, counts="any", steps=9))
    assert notebook.said[-1] == "close"


def test_phases_are_ranges_within_the_step(tmp_path, notebook):
    class Phased(ScriptedEngine):
        def step(self, until_ns):
            marks.ranged("schedule", lambda: None)()
            return super().step(until_ns)

    run_pass(Phased(), tmp_path, Window(opens=0, counts="any", steps=1))
    assert notebook.said[2:6] == ["step 0", "schedule", ".", "."]


def test_where_prefill_is_not_told_a_first_token_says_that_there_was_some(tmp_path, notebook):
    run_pass(ScriptedEngine(), tmp_path, Window(opens="start", counts="prefill", steps=1))
    assert [word for word in notebook.said if word.startswith("step")] == ["step 0", "step 0: running 1"]


def test_an_engine_s_own_instance_only_is_wrapped(tmp_path, notebook):
    engine = ScriptedEngine()
    run_pass(engine, tmp_path, Window(opens=0, counts="any", steps=1))
    assert "step" in vars(engine)
    assert "step" not in vars(ScriptedEngine())
