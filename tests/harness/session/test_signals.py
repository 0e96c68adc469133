"""A signal at any point of a run: exit by the signal and a result on disk, whatever was going on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from innerloop.harness.run import main
from tests.harness.test_failures import FEW, SCRIPTED

pytestmark = pytest.mark.slow

Going = Callable[[], tuple[int, dict[str, Any] | None]]


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Going:
    """Runs the scripted engine here; the exit code, and result.json, None without one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.yaml").write_text(FEW)

    def run() -> tuple[int, dict[str, Any] | None]:
        code = main(["--engine", str(SCRIPTED), "--workload", "few.yaml", "--out", "run", "--ceilings", "off"])
        path = tmp_path / "run" / "result.json"
        return code, json.loads(path.read_text()) if path.exists() else None

    return run


def signal_at(monkeypatch: pytest.MonkeyPatch, place: str, when: str, times: int = 1) -> list[str]:
    """Sends SIGINT `times` times when `place` is first called, before or after what it does."""
    module, _, name = place.rpartition(".")
    owner: Any = _found(module)
    own: Any = getattr(owner, name)
    reached: list[Any] = []

    def signalled(*arguments: Any, **named: Any) -> Any:
        first = not reached
        reached.append(place)
        if first and when == "before":
            send(times)
        got = own(*arguments, **named)
        if first and when == "after":
            send(times)
        return got

    monkeypatch.setattr(owner, name, signalled)
    return reached


def send(times: int) -> None:
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


def _found(path: str) -> Any:
    import importlib

    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(_found(module), name)


RUN = "innerloop.harness.session.run"
CUT = (  # the run ends here, and its result says so
    f"{RUN}.prepare",
    f"{RUN}.write_job",
    f"{RUN}.host_state",
    f"{RUN}.measure",
    "innerloop.harness.store.atomic.replace_file",  # of the run's workload
    "innerloop.harness.session.run.Worker.__init__",
    "innerloop.harness.telemetry.samplers.Samplers.follow",
    "innerloop.harness.session.live.LiveView.__enter__",
    "innerloop.harness.session.live.LiveView.tick",
    "innerloop.harness.process.launcher.take",
    "innerloop.harness.session.live.LiveView.__exit__",
    f"{RUN}.Worker.kill",
    f"{RUN}.Worker.close",
)
KEPT = (  # what was measured is being put away: that is not cut
    f"{RUN}.conclude",
    "innerloop.harness.session.conclude.observed",
    "innerloop.harness.session.conclude.convert",
    "innerloop.harness.store.parquet.write",
    "innerloop.harness.session.conclude.build",
    "innerloop.harness.result.keep.result_file.write",
    f"{RUN}.release",
)


def children() -> set[psutil.Process]:
    """The processes below this one that are not over."""
    return {one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", CUT)
def test_a_run_that_is_cut_has_an_interrupted_result(place, when, go, monkeypatch, capsys):
    before = children()
    reached = signal_at(monkeypatch, place, when)
    code, result = go()
    assert reached
    assert code == 130
    assert result is not None
    assert result["status"] == "interrupted"
    assert "SIGINT" in result["failure"]["message"]
    assert sorted(path.name for path in Path("run").rglob(".*")) == []
    assert "Traceback" not in capsys.readouterr().err
    assert children() <= before


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", KEPT)
def test_what_is_being_put_away_is_kept_and_the_signal_is_the_exit_code(place, when, go, monkeypatch, capsys):
    reached = signal_at(monkeypatch, place, when)
    code, result = go()
    assert reached
    assert code == 130
    assert result is not None
    assert result["failure"] is None
    assert result["counts"]["finished"] == 8
    assert not Path("run/trace").exists()
    assert sorted(path.name for path in Path("run").rglob(".*")) == []
    assert capsys.readouterr().err.endswith("innerloop: interrupted by SIGINT\n")


@pytest.mark.parametrize("place", [place for place in KEPT if "parquet" not in place])  # it has no table yet
def test_further_signals_do_not_lose_the_record_of_a_run_that_was_cut(place, go, monkeypatch):
    signal_at(monkeypatch, "innerloop.harness.process.launcher.take", "after")
    reached = signal_at(monkeypatch, place, "before", times=3)
    code, result = go()
    assert reached
    assert code == 130
    assert result is not None
    assert result["status"] == "interrupted"
    assert not Path("run/trace").exists()


@pytest.mark.parametrize("place", ["inputs_of", "make_folder"])
def test_before_there_is_a_folder_nothing_is_left(place, go, monkeypatch, tmp_path, capsys):
    reached = signal_at(monkeypatch, f"innerloop.harness.session.windows.{place}", "before")
    code, result = go()
    assert reached
    assert code == 130
    if place == "inputs_of":
        assert not (tmp_path / "run").exists()
    else:  # it was claimed meanwhile
        assert result is not None
        assert result["status"] == "interrupted"
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("place", ["print_report", "exit_code"])
def test_a_report_that_is_cut_takes_nothing_from_the_run(place, go, monkeypatch, capsys):
    home = {"print_report": "innerloop.harness.report.run", "exit_code": "innerloop.harness.result.exit_code"}[place]
    reached = signal_at(monkeypatch, f"{home}.{place}", "before")
    code, result = go()
    assert reached
    assert code == 130
    assert result is not None
    assert result["counts"]["finished"] == 8
