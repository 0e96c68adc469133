"""Several windows on one loaded engine: what each is given, and what it finds."""

from __future__ import annotations

import gc
import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.engines.contract import EngineInfo
from innerloop.engines.worker import trace
from innerloop.engines.worker.warmup import SHAPES
from innerloop.engines.worker.windows import Windows
from innerloop.engines.worker.work import Work
from tests.engines.support.driving import work
from tests.engines.worker.scripted import ScriptedEngine

RULE = {"max_rounds": 2, "max_s": 60.0, "tolerance": 1e-9, "window": 2}


@pytest.fixture(autouse=True)
def frozen_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests, which tests/conftest.py freezes, are no garbage to look for before each window."""
    monkeypatch.setattr(gc, "unfreeze", lambda: None)


class Caching(ScriptedEngine):
    """Has a prefix cache, and notes after which requests it was emptied."""

    info = EngineInfo(version="1", effective={"prefix_caching": True})

    def __init__(self) -> None:
        super().__init__(step_s=0.001)
        self.emptied: list[int] = []

    def reset_caches(self) -> bool:
        self.emptied.append(len(self.submitted))
        assert not self.running
        return True


class Channel:
    """Stands in for the control channel."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, event: str, **more: Any) -> None:
        if event == "phase":
            self.sent.append(more)


def job(folder: Path, load: Work, rounds: Work) -> dict[str, Any]:
    folder.mkdir()
    for name, one in (("workload", load), ("warmup", rounds)):
        np.savez(folder / f"{name}.npz", **{field: value for field, value in asdict(one).items() if value is not None})
    warm = {"workload": str(folder / "warmup.npz"), "rule": RULE}
    return {
        "workload": str(folder / "workload.npz"),
        "warmup": warm,
        "trace": str(folder / "trace"),
        "keep_token_ids": False,
    }


def measured(tmp_path: Path, *loads: Work, rounds: Work) -> tuple[Caching, list[dict[str, Any]]]:
    """Measures one load after the other; the engine, and what was told."""
    engine, channel, memory = Caching(), Channel(), itertools.count(1)
    windows = Windows(engine, channel, 1000, lambda field: next(memory))  # type: ignore[arg-type]
    for number, load in enumerate(loads):
        windows.clear()
        windows.measure(job(tmp_path / str(number), load, rounds), {"after_load": 7})
    return engine, channel.sent


def test_each_window_has_its_own_trace_on_empty_caches_and_ids_go_on(tmp_path: Path) -> None:
    load, rounds = work([(5, 4), (6, 2)]), work([(3, 2), (4, 1)])
    engine, told = measured(tmp_path, load, load, rounds=rounds)
    ids = [request for _, request in engine.submitted]
    assert len(ids) == len(set(ids))
    for number, before in enumerate(engine.emptied):
        table = trace.records(tmp_path / str(number) / "trace" / "measure", "requests")
        assert table["output_tokens"].tolist() == [4, 2]
        of_window = ids[before : before + 2]
        assert max(of_window) == max(ids[: before + 2])
    assert [one["phase"] for one in told] == ["measure", "close"] * 2
    assert [one["caches_reset"] for one in told[::2]] == [True, True]
    assert [set(one["memory_bytes"]) for one in told[1::2]] == [
        {"after_load", "after_warmup", "after_measure", "peak"}
    ] * 2


def test_shapes_are_run_again_only_where_a_window_needs_more_of_them(tmp_path: Path) -> None:
    rounds, short, long = work([(3, 2)] * 4), work([(5, 4)]), work([(50, 4)])
    _, told = measured(tmp_path, short, short, long, short, rounds=rounds)
    assert [one["warmup_shapes"] for one in told[::2]] == [list(SHAPES), [], ["long"], []]


def test_what_the_end_of_a_window_cut_is_finished_before_the_next(tmp_path: Path) -> None:
    cut = replace(work([(5, 400), (6, 400)]), duration_ns=10_000_000)
    engine, told = measured(tmp_path, cut, work([(5, 3)]), rounds=work([(3, 2)]))
    first = trace.records(tmp_path / "0" / "trace" / "measure", "requests")
    assert set(first["state"].tolist()) == {trace.STATES.index("cut")}
    second = trace.records(tmp_path / "1" / "trace" / "measure", "requests")
    assert second["output_tokens"].tolist() == [3]
    assert engine.most_running == 2
    assert len(told) == 4
