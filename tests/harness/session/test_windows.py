"""Windows of one process: which part of what was observed is whose."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.samples import Samples
from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments import interpreters, own
from innerloop.harness.machine import this_machine
from innerloop.harness.process.launcher import Limits, Outcome, take
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.session import prepared
from innerloop.harness.session.options import Options
from innerloop.harness.session.windows import SamplerOfWindow, in_folders, inputs_of_windows, outcomes, samplers_of
from innerloop.harness.spec.model import RunRequest
from innerloop.harness.spec.resolve import resolve
from tests.real import ROOT


def told(outcome: Outcome, phase: str, time_ns: int, **more: Any) -> None:
    take({"event": "phase", "phase": phase, "time_ns": time_ns, **more}, outcome)  # type: ignore[typeddict-item]


def of_two_windows() -> Outcome:
    outcome = Outcome()
    for time_ns, phase in enumerate(("start", "import", "load")):
        told(outcome, phase, time_ns)
    told(outcome, "warmup", 3, load_s=2.5)
    told(outcome, "measure", 4, caches_reset=True, warmup={"rounds": 3})
    told(outcome, "close", 5, memory_bytes={"peak": 1})
    told(outcome, "warmup", 6, window=1)
    return outcome


def windows(folder: Path, count: int) -> list[Any]:
    return [SimpleNamespace(folder=folder / str(k)) for k in range(count)]


def test_a_window_has_what_holds_for_all_and_what_is_its_own(tmp_path: Path) -> None:
    outcome = of_two_windows()
    told(outcome, "measure", 7, caches_reset=False)
    told(outcome, "close", 8)
    first, second = outcomes(windows(tmp_path, 2), outcome)
    assert first.phases == {"start": 0, "import": 1, "load": 2, "warmup": 3, "measure": 4, "close": 5}
    assert second.phases == {"start": 0, "import": 1, "load": 2, "warmup": 6, "measure": 7, "close": 8}
    assert first.reported == {
        "load_s": 2.5,
        "caches_reset": True,
        "warmup": {"rounds": 3},
        "memory_bytes": {"peak": 1},
    }
    assert second.reported == {"load_s": 2.5, "caches_reset": False}
    assert (first.failure, second.failure) == (None, None)


def test_a_failure_is_that_of_the_window_it_came_in_and_of_those_after(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "engine.log").write_text("its last words\n")
    outcome = of_two_windows()
    outcome.failure = Failure("hang", "it hung")
    first, second, third = outcomes(windows(tmp_path, 3), outcome)
    assert first.failure is None
    assert second.failure is not None
    assert (second.failure.message, second.failure.log_tail) == ("it hung", ("its last words",))
    assert third.failure is not None
    assert third.failure.message == "its process failed in window 2 of 3: it hung"
    assert third.phases == {"start": 0, "import": 1, "load": 2}
    assert third.reported == {"load_s": 2.5}


class Saw:
    def __init__(self, *times: int, **facts: Any) -> None:
        table = np.array([(t, 0) for t in times], dtype=[("time_ns", "<i8"), ("late_ns", "<i8")])
        self.samples = Samples("host", table, 1.0, 0.0, None, facts)

    def stop(self) -> Samples:
        return self.samples


def test_a_windows_samples_reach_from_its_warm_up_to_its_end_with_those_of_the_idle_device() -> None:
    saw: Any = Saw(*range(0, 100, 10), idle_until_ns=20)
    kept = SamplerOfWindow(saw, 45, 65).stop().table["time_ns"].tolist()
    assert kept == [0, 10, 40, 50, 60, 70]
    assert SamplerOfWindow(saw, 85, None).stop().table["time_ns"].tolist() == [0, 10, 80, 90]
    one: Any = SimpleNamespace(all=[saw])
    assert samplers_of(one, windows(Path(), 1), Outcome()) == [saw]


def test_only_what_loads_the_same_engine_shares_one() -> None:
    asked: Any = [(SimpleNamespace(load={"model": name}), None) for name in ("a", "b")]
    with pytest.raises(Refused, match="only their workloads"):
        inputs_of_windows(asked, None)  # type: ignore[arg-type]


def test_all_windows_get_a_folder_or_none_does(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()

    def drawn(name: str) -> Any:
        options = SimpleNamespace(out=tmp_path / name, numbered=False)
        return SimpleNamespace(options=options, in_folder=lambda folder: SimpleNamespace(folder=folder))

    with pytest.raises(Refused, match="not empty"):
        in_folders([drawn("free"), drawn("taken")])
    assert not (tmp_path / "free").exists()
    assert [one.folder.name for one in in_folders([drawn("free"), drawn("other")])] == ["free", "other"]


def test_an_interpreter_is_asked_once_for_all_windows_and_their_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def probe(python: Path, *more: Any) -> Any:
        asked.append(python)
        return interpreters.probe(python, *more)

    def reached(*_: Any, **__: Any) -> Any:
        raise Refused("the environment is there")

    monkeypatch.setattr(own, "probe", probe)
    monkeypatch.setattr(prepared, "ensure_checkpoint", reached)
    engine = str(ROOT / "tests" / "plugins" / "scripted")
    machine, request = this_machine(), RunRequest(engine=engine, device="cpu", engine_python=Path(sys.executable))
    windows = [(resolve(request, machine), Options(tmp_path / str(k), Limits())) for k in range(2)]
    first, second = inputs_of_windows(windows, machine)
    found = prepared.Prepared()
    with pytest.raises(Refused, match="is there"):
        prepared.prepare(first, found, print)
    assert found.environment is first.environment is second.environment is not None
    assert asked == [Path(sys.executable)]
