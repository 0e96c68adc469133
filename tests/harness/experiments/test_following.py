"""How far an experiment is, from its journal, while another process writes to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.folder import LOCK, write_manifest
from innerloop.harness.experiments.following import Follower, follow
from innerloop.harness.report.progress import clock
from innerloop.harness.schema.experiment import Event
from innerloop.harness.store import journal
from innerloop.harness.store.typed import typed
from innerloop.harness.watch import main
from tests.harness.experiments.test_blocks import event, manifest


def at(second: int, job: Job, state: str = "done", **changes: Any) -> Event:
    return replace(event(job, state), time=f"2026-11-28T00:00:{second:02d}+00:00", **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, manifest("a", "b", "c", blocks=2, design="sweep", kept=True))
    for one in (
        at(0, Job("a", 1), "done", run="/elsewhere"), at(1, Job("b", 1), "started"), at(5, Job("b", 1)),
        at(5, Job("c", 1), "started"), at(9, Job("c", 1), "failed", reason="no memory"), at(9, Job("a", 2), "started"),
    ):  # fmt: skip
        journal.append(tmp_path, one)
    return tmp_path


def test_jobs_are_done_failed_running_and_to_come(folder: Path) -> None:
    from filelock import FileLock

    with FileLock(folder / LOCK):
        follower = Follower(folder)
        now = follower.progress()
        assert (now.state, now.jobs, now.done, now.failed, now.reused, now.to_come) == ("running", 6, 2, 1, 1, 2)
        assert [job.name for job in now.running] == ["a-2"]
        assert [(job.name, job.state, job.seconds) for job in now.last] == [
            ("a-1", "done", None), ("b-1", "done", 4.0), ("c-1", "failed", 4.0)
        ]  # fmt: skip
        # two jobs in eight seconds; three are running or to come
        assert now.left_s == pytest.approx(12.0)
        journal.append(folder, at(13, Job("a", 2)))
        assert follower.progress().done == 3


def test_suspect_runs_are_told_from_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(tmp_path, manifest("a", "b", blocks=1, design="sweep", kept=True))
    for one in (at(0, Job("a", 1), "done", status="suspect"), at(1, Job("b", 1), "done", status="ok")):
        journal.append(tmp_path, one)
    now = Follower(tmp_path).progress()
    assert (now.state, now.done, now.suspect) == ("suspect", 2, 1)
    assert [job.state for job in now.last] == ["suspect", "done"]
    assert main([str(tmp_path), "--once"]) == 0
    assert "sweep, suspect: 2 done (1 suspect), 0 running" in " ".join(capsys.readouterr().out.split())


def test_it_ends_with_the_experiment_and_says_that_nobody_runs_it(folder: Path) -> None:
    [only] = follow(folder, 1.0, once=False)
    assert (only.state, only.running, only.to_come, only.left_s) == ("interrupted", (), 3, None)


def test_a_line_that_is_half_written_waits(tmp_path: Path) -> None:
    tail = journal.Tail(tmp_path, typed)
    assert tail.new() == []
    journal.append(tmp_path, event(Job("a", 1)))
    whole = (tmp_path / journal.FILE).read_bytes()
    (tmp_path / journal.FILE).write_bytes(whole + whole[:20])
    assert len(tail.new()) == 1
    (tmp_path / journal.FILE).write_bytes(whole + whole)
    assert len(tail.new()) == 1
    assert tail.new() == []


def test_the_command_prints_it_or_says_that_it_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--once"]) == 0
    out = capsys.readouterr().out
    assert "sweep, interrupted: 2 done (1 reused), 1 failed" in " ".join(out.split())
    assert "c-1: no memory" in out
    assert main([str(folder / "nothing")]) == 2
    assert "there is no file" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert main([str(folder / "empty")]) == 2
    assert "is not an experiment" in capsys.readouterr().err
    assert [clock(5), clock(125), clock(3725)] == ["0:05", "2:05", "1:02:05"]


@pytest.mark.parametrize("time", ["2026-11-28T00:00:00", "yesterday", ""])
def test_a_time_that_is_none_leaves_a_duration_unknown(folder: Path, time: str) -> None:
    journal.append(folder, replace(at(1, Job("b", 2), "started"), time=time), at(9, Job("b", 2)))
    assert Follower(folder).progress().last[-1].seconds is None
